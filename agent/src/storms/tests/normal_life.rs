//! Normal life, in which nothing may be found.

use super::simulator::{BATCH, CART, Fleet, World};

const SEEDS: u64 = 5;

/// Seconds of a day.
const DAY: u64 = 86_400;

const JOB: Fleet = Fleet {
    network: 10,
    instances: 100,
    ..BATCH
};

fn held(world: &mut World) {
    world.adopt(&CART);
    world.adopt(&BATCH);
    world.pass(30_000, |_| {});
}

#[test]
fn a_staggered_deploy_is_silent() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        held(&mut world);
        let new = Fleet { network: 8, ..CART };
        // Three pods every four seconds: 150 of them take more than three minutes.
        for instance in 0..CART.instances {
            world.open(&new, new.address(instance), new.pool);
            let pause = 700 + 100 * world.dice.below(12);
            world.pass(pause, |_| {});
            world.close(CART.address(instance), CART.pool);
        }
        world.pass(30_000, |_| {});
        world.assert_silent();
    }
}

#[test]
fn a_fleet_that_scales_and_a_batch_that_comes_and_goes_are_silent() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        held(&mut world);
        let more = Fleet {
            network: 9,
            instances: 60,
            ..CART
        };
        for instance in 0..more.instances {
            world.open(&more, more.address(instance), more.pool);
            if instance % 6 == 5 {
                world.pass(200, |_| {});
            }
        }
        world.pass(60_000, |_| {});
        world.open_all(&JOB);
        world.pass(60_000, |_| {});
        world.close_all(&JOB);
        world.pass(60_000, |_| {});
        world.assert_silent();
        assert_eq!(world.connections(), CART.total() + BATCH.total() + more.total());
    }
}

/// A batch that runs for two minutes, of which it is known that it comes and goes.
fn batch_runs(world: &mut World) {
    for minutes in [5, 0] {
        world.open_all(&JOB);
        world.pass(120_000, |_| {});
        world.close_all(&JOB);
        world.pass(60_000 * minutes, |_| {});
    }
}

#[test]
fn a_batch_that_begins_when_another_has_ended_is_silent() {
    for (seed, pause) in [300, 2_000, 9_000, 30_000, 100_000].into_iter().enumerate() {
        let mut world = World::new(seed as u64);
        held(&mut world);
        batch_runs(&mut world);
        world.pass(pause, |_| {});
        world.open_all(&JOB);
        world.pass(60_000, |_| {});
        world.assert_silent();
    }
}

#[test]
fn a_batch_after_a_batch_in_the_middle_of_a_deploy_is_silent() {
    let mut world = World::new(1);
    held(&mut world);
    batch_runs(&mut world);
    // Until just before the clients are looked at again.
    for instance in 0..2 * CART.instances / 3 {
        if instance == 49 {
            world.open_all(&JOB);
        }
        let address = CART.address(instance);
        let closed = world.close(address, CART.pool);
        world.open(&CART, address, closed);
        world.pass(400, |_| {});
    }
    world.pass(60_000, |_| {});
    world.assert_silent();
}

#[test]
fn a_workload_that_comes_when_another_has_left_is_silent() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        held(&mut world);
        for (workload, network) in [("readers", 12), ("report", 14)] {
            let fleet = Fleet {
                workload: Some(workload),
                network,
                instances: 60,
                ..CART
            };
            world.open_all(&fleet);
            let stay = 60_000 + 100 * world.dice.below(1_000);
            world.pass(stay, |_| {});
            world.close_all(&fleet);
            let pause = 100 * world.dice.below(300);
            world.pass(pause, |_| {});
        }
        world.assert_silent();
    }
}

#[test]
fn a_deploy_and_a_batch_in_the_middle_of_it_are_silent_even_if_nobody_knows_the_workloads() {
    let unknown = |fleet: Fleet| Fleet {
        workload: None,
        ..fleet
    };
    for seed in 0..SEEDS {
        for network in [CART.network, 8] {
            let mut world = World::new(seed);
            let (cart, batch) = (unknown(CART), unknown(BATCH));
            world.adopt(&cart);
            world.pass(30_000, |_| {});
            let (new, first) = (Fleet { network, ..cart }, 20 + world.dice.below(60));
            for instance in 0..cart.instances {
                world.close(cart.address(instance), cart.pool);
                world.open(&new, new.address(instance), new.pool);
                world.pass(400, |_| {});
                if instance == first {
                    for address in batch.addresses() {
                        world.open(&batch, address, 20);
                    }
                }
            }
            world.pass(30_000, |_| {});
            world.assert_silent();
        }
    }
}

#[test]
fn pools_that_grow_under_load_are_silent() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        held(&mut world);
        let more = 1 + world.dice.below(CART.pool - 1);
        for address in CART.addresses() {
            world.open(&CART, address, more);
            if world.dice.below(20) == 0 {
                world.pass(100, |_| {});
            }
        }
        world.pass(60_000, |_| {});
        world.assert_silent();
    }
}

#[test]
fn a_client_that_is_restarted_alone_is_silent() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        let large = Fleet {
            workload: Some("gateway"),
            network: 15,
            instances: 8,
            pool: 400,
            ..CART
        };
        world.adopt(&large);
        held(&mut world);
        let address = large.address(world.dice.below(large.instances));
        world.close(address, large.pool);
        let pause = 100 * world.dice.below(100);
        world.pass(pause, |_| {});
        world.open(&large, address, large.pool);
        world.pass(60_000, |_| {});
        world.assert_silent();
    }
}

#[test]
fn a_fleet_that_comes_to_a_server_where_nothing_ever_happened_is_silent() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        let few = Fleet {
            instances: 2,
            ..BATCH
        };
        world.adopt(&few);
        world.pass(60_000, |_| {});
        for address in CART.addresses() {
            world.open(&CART, address, CART.pool);
            if world.dice.below(8) == 0 {
                world.pass(100, |_| {});
            }
        }
        world.pass(120_000, |_| {});
        world.assert_silent();
    }
}

#[test]
fn a_server_that_is_met_in_the_middle_of_a_busy_day_is_silent() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        world.adopt(&CART);
        world.adopt(&BATCH);
        world.pass(120_000, |world| {
            for _ in 0..world.dice.events(4.0) {
                let address = CART.address(world.dice.below(CART.instances));
                let closed = world.close(address, 1);
                world.open(&CART, address, closed);
            }
        });
        world.assert_silent();
    }
}

#[test]
fn a_client_with_short_connections_by_design_is_silent_even_when_it_begins() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        held(&mut world);
        let cron = Fleet {
            workload: Some("cron"),
            network: 11,
            instances: 8,
            pool: 1,
            ..BATCH
        };
        world.pass(120_000, |world| {
            for _ in 0..world.dice.events(20.0) {
                let address = cron.address(world.dice.below(cron.instances));
                world.close(address, 1);
                world.open(&cron, address, 1);
            }
        });
        world.assert_silent();
    }
}

#[test]
fn a_deploy_beside_short_connections_by_design_is_silent() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        world.adopt(&CART);
        world.adopt(&BATCH);
        let cron = Fleet {
            workload: Some("cron"),
            network: 11,
            instances: 8,
            pool: 4,
            ..BATCH
        };
        // Each has four jobs, every second: as steady as a clock.
        let short = |world: &mut World| {
            if world.elapsed().is_multiple_of(1_000) {
                for address in cron.addresses() {
                    let closed = world.close(address, 4);
                    world.open(&cron, address, closed.max(4));
                }
            }
        };
        world.pass(90_000, short);
        for address in CART.addresses() {
            let closed = world.close(address, CART.pool);
            world.open(&CART, address, closed);
            world.pass(400, short);
        }
        world.pass(30_000, short);
        world.assert_silent();
    }
}

#[test]
fn a_burst_that_the_server_takes_in_is_silent() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        held(&mut world);
        for _ in 0..20 {
            world.queue(400, 0);
            world.pass(100, |_| {});
            world.queue(0, 0);
            world.pass(3_000, |_| {});
        }
        world.assert_silent();
    }
}

#[test]
fn the_failover_of_a_replica_is_silent_at_the_server_that_takes_its_clients() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        held(&mut world);
        // Half as many again come over within a second, and stay.
        let readers = Fleet {
            workload: Some("readers"),
            network: 12,
            instances: 80,
            ..CART
        };
        for address in readers.addresses() {
            world.open(&readers, address, readers.pool);
            if world.dice.below(8) == 0 {
                world.pass(100, |_| {});
            }
        }
        world.pass(60_000, |_| {});
        world.assert_silent();
    }
}

#[test]
fn a_week_of_days_and_nights_is_silent() {
    let mut world = World::new(7);
    world.look_every = 120_000;
    held(&mut world);
    let day = Fleet {
        workload: Some("web"),
        network: 13,
        instances: 200,
        pool: 10,
        ..CART
    };
    // Ticks of a second: what happens within one is the same to every window that is longer.
    let mut held_by_day = 0;
    for second in 0..7 * DAY {
        let hour = (second % DAY) as f64 / 3_600.0;
        let wanted = (100.0 + 90.0 * ((hour - 14.0) / 24.0 * std::f64::consts::TAU).cos()) as u64;
        while held_by_day < wanted {
            world.open(&day, day.address(held_by_day), day.pool);
            held_by_day += 1;
        }
        while held_by_day > wanted {
            held_by_day -= 1;
            world.close(day.address(held_by_day), day.pool);
        }
        for _ in 0..world.dice.events(1.0) {
            let address = CART.address(world.dice.below(CART.instances));
            let closed = world.close(address, 1);
            world.open(&CART, address, closed);
            // Now and then somebody gives up.
            if world.dice.below(20) == 0 {
                world.give_up(address, 1);
                world.open(&CART, address, 1);
            }
        }
        world.long_tick(1_000);
    }
    world.assert_silent();
}
