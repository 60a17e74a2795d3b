//! Every kind of storm, with sizes drawn at random.

use super::simulator::{BATCH, CART, Fleet, LINK, Load, USUAL, World};
use crate::storms::Kind;

/// Who is there.
pub(super) struct Cast {
    cart: Fleet,
    batch: Fleet,
}

/// A storm and what has to be said of it.
pub(super) struct Scenario {
    pub(super) kind: Kind,
    pub(super) culprit: &'static str,
    /// How long it may take to be found before it counts as missed, in milliseconds.
    pub(super) within: u64,
    /// Returns when it began.
    pub(super) play: fn(&mut World, &Cast) -> u64,
}

const fn scenario(kind: Kind, culprit: &'static str, play: fn(&mut World, &Cast) -> u64) -> Scenario {
    let within = if matches!(kind, Kind::ConnectionGrowth) {
        120_000
    } else {
        10_000
    };
    Scenario {
        kind,
        culprit,
        within,
        play,
    }
}

/// One of each kind.
pub(super) const ALL: [Scenario; 10] = [
    scenario(Kind::ReconnectChurn, "cart-api", clients_time_out_and_reopen),
    scenario(Kind::ColdReconnect, "cart-api", everybody_opens_anew),
    scenario(Kind::MaxclientsRejection, "batch", clients_are_refused),
    scenario(Kind::AcceptQueueSaturation, "cart-api", nobody_is_accepted),
    scenario(Kind::RetryAmplification, "login", clients_ask_again),
    scenario(Kind::BandwidthSaturation, "search", the_link_is_full),
    scenario(Kind::OversizedValues, "promo", values_are_large),
    scenario(Kind::HotPrefix, "checkout", one_prefix_takes_the_server),
    scenario(Kind::ConnectionGrowth, "batch", connections_leak),
    scenario(Kind::ErrorBurst, "search", commands_fail),
];

/// A server with two fleets that has lived for one to two and a half minutes.
pub(super) fn usual(seed: u64) -> (World, Cast) {
    let mut world = World::new(seed);
    let cart = Fleet {
        instances: 50 + world.dice.below(200),
        pool: 4 + world.dice.below(17),
        ..CART
    };
    let cast = Cast { cart, batch: BATCH };
    world.adopt(&cast.cart);
    world.adopt(&cast.batch);
    world.loads = USUAL.to_vec();
    let milliseconds = 60_000 + 100 * world.dice.below(900);
    live(&mut world, &cast, milliseconds);
    (world, cast)
}

/// A connection dies now and then and is opened again.
pub(super) fn live(world: &mut World, cast: &Cast, milliseconds: u64) {
    world.pass(milliseconds, |world| {
        for _ in 0..world.dice.events(0.2) {
            let address = cast.cart.address(world.dice.below(cast.cart.instances));
            let closed = world.close(address, 1);
            world.open(&cast.cart, address, closed);
        }
    });
}

/// From 0 to 1, between two bounds.
fn between(world: &mut World, low: f64, high: f64) -> f64 {
    low + (high - low) * world.dice.share()
}

/// The server stops for 2 to 5 s. Clients lose patience one after the other and come again as long as it lasts; the accept
/// queue takes 512, of the others the handshake is dropped. Then all get in.
fn clients_time_out_and_reopen(world: &mut World, cast: &Cast) -> u64 {
    world.answers = false;
    let patience = 300 + 100 * world.dice.below(8);
    world.pass(patience, |_| {});
    let onset = world.moment().0;
    let fleet = cast.cart;
    let spread = 3 + world.dice.below(12);
    let (mut instance, mut waiting) = (0, 0);
    let stopped = 2_000 + 100 * world.dice.below(30);
    world.pass(stopped - patience, |world| {
        for _ in 0..fleet.instances.div_ceil(spread) {
            let address = fleet.address(instance % fleet.instances);
            world.give_up(address, fleet.pool);
            let opened = fleet.pool.min(512 - waiting);
            world.open(&fleet, address, opened);
            waiting += opened;
            instance += 1;
            world.queue(waiting, fleet.pool - opened);
        }
    });
    world.answers = true;
    world.pass(2_000, |world| {
        world.queue(0, 0);
        for address in fleet.addresses() {
            world.open(&fleet, address, 1);
        }
    });
    onset
}

/// All are replaced within 2 to 8 s.
fn everybody_opens_anew(world: &mut World, cast: &Cast) -> u64 {
    let (onset, fleet) = (world.moment().0, cast.cart);
    let ticks = 20 + world.dice.below(60);
    for tick in 0..ticks {
        // The first in the first tick: that is the onset.
        let until = |tick: u64| (fleet.instances * tick).div_ceil(ticks);
        for instance in until(tick)..until(tick + 1) {
            let address = fleet.address(instance);
            let closed = world.close(address, fleet.pool);
            world.open(&fleet, address, closed);
        }
        world.tick();
    }
    onset
}

fn clients_are_refused(world: &mut World, cast: &Cast) -> u64 {
    let (onset, fleet) = (world.moment().0, cast.batch);
    let per_tick = between(world, 1.0, 6.0);
    world.pass(5_000, |world| {
        for _ in 0..world.dice.events(per_tick) {
            let address = fleet.address(world.dice.below(fleet.instances));
            world.reject(&fleet, address, 1);
        }
    });
    onset
}

fn nobody_is_accepted(world: &mut World, cast: &Cast) -> u64 {
    let (onset, fleet) = (world.moment().0, cast.cart);
    let drops = world.dice.below(4);
    world.answers = false;
    world.pass(3_000, |world| {
        for _ in 0..2 {
            let address = fleet.address(world.dice.below(fleet.instances));
            world.open(&fleet, address, 1);
        }
        let length = 270 + world.dice.below(240);
        world.queue(length, drops);
    });
    world.answers = true;
    world.queue(0, 0);
    onset
}

/// One client holds all that it opens, until it is nearly too many.
fn connections_leak(world: &mut World, cast: &Cast) -> u64 {
    let share = between(world, 0.6, 0.8);
    let limit = (world.connections() as f64 / share) as u64;
    world.set_limit(limit);
    let onset = world.moment().0;
    let leaking = cast.batch.address(world.dice.below(cast.batch.instances));
    let pace = limit as f64 * between(world, 0.000_2, 0.000_5);
    world.pass(90_000, |world| {
        let leaked = world.dice.events(pace);
        if world.connections() + leaked < limit * 98 / 100 {
            world.open(&cast.batch, leaking, leaked);
        }
    });
    world.close(leaking, limit);
    onset
}

/// Six seconds of other loads.
fn other_loads(world: &mut World, mut change: impl FnMut(&mut Load)) -> u64 {
    // Seconds are those of the clock.
    let onset = world.moment().0;
    for load in &mut world.loads {
        change(load);
    }
    world.pass(6_000, |_| {});
    world.loads = USUAL.to_vec();
    onset
}

fn clients_ask_again(world: &mut World, _: &Cast) -> u64 {
    let (times, answered) = (between(world, 2.0, 4.0), between(world, 0.1, 0.5));
    other_loads(world, |load| {
        (load.answered, load.latency) = (answered, 0.4);
        if load.prefix == "session" {
            load.commands *= times;
        }
    })
}

fn the_link_is_full(world: &mut World, _: &Cast) -> u64 {
    let share = between(world, 0.9, 1.0);
    other_loads(world, |load| {
        if load.prefix == "search" {
            load.commands = share * LINK as f64 / load.gets as f64;
        }
    })
}

fn values_are_large(world: &mut World, _: &Cast) -> u64 {
    let (size, count) = (1 << (19 + world.dice.below(3)), between(world, 20.0, 40.0));
    other_loads(world, |load| {
        if load.prefix == "promo" {
            (load.commands, load.gets) = (count, size);
        }
    })
}

fn one_prefix_takes_the_server(world: &mut World, _: &Cast) -> u64 {
    let (times, slower) = (between(world, 6.0, 20.0), between(world, 4.0, 12.0));
    other_loads(world, |load| {
        load.latency *= slower;
        if load.prefix == "cart" {
            load.commands *= times;
        }
    })
}

fn commands_fail(world: &mut World, _: &Cast) -> u64 {
    let share = between(world, 0.4, 0.9);
    other_loads(world, |load| {
        if load.prefix == "search" {
            (load.errors, load.word) = (share, "OOM");
        }
    })
}
