//! Every kind on its storm, in twenty seeds each: the right kind, the right culprit, within a second, once.

use super::simulator::{BATCH, CART, Fleet, World};
use crate::storms::{Kind, Moment, Storm};

const SEEDS: u64 = 20;

/// A server in its normal life for a while: two fleets that hold their connections and replace one now and then.
fn quiet(seed: u64) -> World {
    let mut world = World::new(seed);
    world.adopt(&CART);
    world.adopt(&BATCH);
    let while_milliseconds = 60_000 + 100 * world.dice.below(200);
    world.pass(while_milliseconds, normal);
    world.assert_silent();
    world
}

/// Two connections a second die and are opened again.
fn normal(world: &mut World) {
    for _ in 0..world.dice.events(0.2) {
        let address = CART.address(world.dice.below(CART.instances));
        if world.close(address, 1) > 0 {
            world.open(&CART, address, 1);
        }
    }
}

fn delay(storm: &Storm, onset: u64) -> u64 {
    storm.found.0 - onset
}

#[test]
fn packets_that_a_socket_drops_while_nobody_waits_are_no_storm() {
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        world.pass(60_000, |world| {
            // A network that doubles packets.
            let drops = world.dice.events(0.3);
            world.queue(0, drops);
            normal(world);
        });
        world.assert_silent();
    }
}

#[test]
fn a_crowd_that_comes_and_gives_up_does_not_come_back() {
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        // The server stops; a batch comes, waits, and leaves for good.
        for address in BATCH.addresses() {
            world.open(&BATCH, address, 20);
        }
        world.pass(1_500, |_| {});
        for address in BATCH.addresses() {
            world.give_up(address, 20);
        }
        world.pass(60_000, |_| {});
        let storms = world.storms();
        let churn = storms
            .iter()
            .find(|storm| storm.kinds.contains(&Kind::ReconnectChurn));
        assert!(churn.is_none(), "seed {seed}: {churn:#?}");
    }
}

#[test]
fn clients_that_time_out_and_reopen_are_churn() {
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        // The server stops. Half a second later the first clients give up, and reopen at once: 512 of them get as far as into
        // the accept queue, the others' handshakes are dropped.
        world.pass(500, |_| {});
        let onset = world.moment().0;
        let (mut instance, mut waiting) = (0, 0);
        world.pass(2_500, |world| {
            for _ in 0..CART.instances / 5 {
                let address = CART.address(instance % CART.instances);
                world.give_up(address, CART.pool);
                let opened = CART.pool.min(512 - waiting);
                world.open(&CART, address, opened);
                waiting += opened;
                instance += 1;
            }
            world.queue(waiting, CART.pool - CART.pool.min(512 - waiting));
        });
        // It goes on, and everybody gets in.
        world.pass(2_000, |world| {
            world.queue(0, 0);
            for address in CART.addresses() {
                world.open(&CART, address, 1);
            }
        });
        world.pass(60_000, normal);
        let storm = world.one_storm(Kind::ReconnectChurn, "cart-api");
        assert!(delay(&storm, onset) <= 500, "{storm:#?}");
        assert!(storm.culprits[0].share > 0.95, "{storm:#?}");
        assert!(storm.kinds.contains(&Kind::AcceptQueueSaturation), "{storm:#?}");
        assert!(
            storm.summary.starts_with("reconnect churn: 100 % of "),
            "{}",
            storm.summary
        );
        assert!(
            storm
                .summary
                .contains("workload cart-api, go-redis 8.11, 150 instances"),
            "{}",
            storm.summary
        );
        let ended = storm.ended.expect("over").0 - onset;
        assert!((4_000..20_000).contains(&ended), "{ended}");
    }
}

#[test]
fn clients_that_open_the_same_again_and_again_are_churn_even_if_nothing_waits() {
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        let onset = world.moment().0;
        world.pass(5_000, |world| {
            for address in CART.addresses() {
                let some = 3 + world.dice.below(4);
                let closed = world.close(address, some);
                world.open(&CART, address, closed);
            }
        });
        world.pass(60_000, normal);
        let storm = world.one_storm(Kind::ReconnectChurn, "cart-api");
        assert!(
            storm.kinds.contains(&Kind::ColdReconnect),
            "it begins as one: {storm:#?}"
        );
        assert!(delay(&storm, onset) <= 1_000, "{storm:#?}");
    }
}

#[test]
fn everybody_who_opens_anew_by_night_is_a_cold_reconnect() {
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        let onset = world.moment().0;
        let mut instance = 0;
        world.pass(5_000, |world| {
            for _ in 0..CART.instances / 50 {
                let address = CART.address(instance);
                let closed = world.close(address, CART.pool);
                world.open(&CART, address, closed);
                instance += 1;
            }
        });
        world.pass(60_000, normal);
        let storm = world.one_storm(Kind::ColdReconnect, "cart-api");
        assert_eq!(storm.kinds, [Kind::ColdReconnect], "{storm:#?}");
        assert!(delay(&storm, onset) <= 1_000, "{storm:#?}");
        assert!(
            storm.culprits[0].instances >= CART.instances * 9 / 10,
            "{storm:#?}"
        );
        // That is how long it took, and not how long it was watched.
        let said = [" opens in 4 s: ", " opens in 5 s: "];
        assert!(said.iter().any(|said| storm.summary.contains(said)), "{storm:#?}");
    }
}

/// All instances of a fleet open their pools, evenly within so long.
fn come(world: &mut World, fleet: &Fleet, milliseconds: u64) {
    let mut instance = 0;
    world.pass(milliseconds, |world| {
        for _ in 0..fleet.instances * 100 / milliseconds {
            world.open(fleet, fleet.address(instance), fleet.pool);
            instance += 1;
        }
    });
}

#[test]
fn pods_that_come_back_under_other_addresses_are_a_cold_reconnect() {
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        let onset = world.moment().0;
        let new = Fleet { network: 7, ..CART };
        world.close_all(&CART);
        world.pass(300, |_| {});
        come(&mut world, &new, 3_000);
        world.pass(60_000, |_| {});
        let storm = world.one_storm(Kind::ColdReconnect, "cart-api");
        assert!(delay(&storm, onset + 300) <= 1_000, "{storm:#?}");
    }
}

#[test]
fn pods_that_take_their_time_to_come_back_are_a_cold_reconnect_wherever_they_come_from() {
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        world.close_all(&CART);
        world.pass(40_000, |_| {});
        let onset = world.moment().0;
        // Of some it is not known what they belong to.
        let workload = [CART.workload, None][seed as usize % 2];
        let new = Fleet {
            network: [CART.network, 7][seed as usize / 2 % 2],
            workload,
            ..CART
        };
        come(&mut world, &new, 5_000);
        world.pass(60_000, |_| {});
        let storms = world.storms();
        assert_eq!(storms.len(), 1, "{seed} {storms:#?}");
        assert_eq!(storms[0].kinds, [Kind::ColdReconnect], "{storms:#?}");
        assert!(delay(&storms[0], onset) <= 1_000, "{storms:#?}");
    }
}

#[test]
fn clients_that_open_anew_before_the_server_knows_that_they_were_gone_are_a_cold_reconnect() {
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        let onset = world.moment().0;
        come(&mut world, &CART, 3_000);
        world.pass(300_000, normal);
        let storm = world.one_storm(Kind::ColdReconnect, "cart-api");
        assert!(delay(&storm, onset) <= 1_000, "{storm:#?}");
    }
}

#[test]
fn a_restart_that_takes_eight_seconds_is_found_within_one() {
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        let (onset, mut instance) = (world.moment().0, 0);
        world.pass(8_000, |world| {
            let until = (world.moment().0 + 100 - onset) * CART.instances / 8_000;
            for instance in instance..until {
                let address = CART.address(instance);
                let closed = world.close(address, CART.pool);
                world.open(&CART, address, closed);
            }
            instance = until;
        });
        world.pass(60_000, normal);
        let storm = world.one_storm(Kind::ColdReconnect, "cart-api");
        assert!(delay(&storm, onset) <= 1_000, "{storm:#?}");
    }
}

#[test]
fn clients_that_leave_a_full_queue_and_do_not_come_back_are_no_churn() {
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        let (batch, full) = (BATCH.address(0), 511);
        world.open(&BATCH, batch, full);
        world.queue(full, 20);
        world.pass(3_000, |_| {});
        // The server goes on, and they have gone when it answers.
        world.give_up(batch, full);
        world.tick();
        world.queue(0, 0);
        world.pass(60_000, normal);
        let storm = world.one_storm(Kind::AcceptQueueSaturation, "batch");
        assert_eq!(storm.kinds, [Kind::AcceptQueueSaturation]);
    }
}

#[test]
fn a_queue_that_stays_full_is_a_storm_and_one_that_drops_is_one_at_once() {
    for seed in 0..SEEDS {
        for drops in [0, 3] {
            let mut world = quiet(seed);
            let onset = world.moment().0;
            world.pass(4_000, |world| {
                for _ in 0..3 {
                    let address = CART.address(world.dice.below(CART.instances));
                    world.open(&CART, address, 1);
                    world.close(address, 1);
                }
                let length = 300 + world.dice.below(211);
                world.queue(length, drops);
            });
            world.queue(0, 0);
            world.pass(60_000, normal);
            let storm = world.one_storm(Kind::AcceptQueueSaturation, "cart-api");
            assert!(
                delay(&storm, onset) <= if drops == 0 { 500 } else { 100 },
                "{storm:#?}"
            );
        }
    }
}

#[test]
fn refused_clients_are_a_storm() {
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        let onset = world.moment().0;
        world.pass(5_000, |world| {
            for _ in 0..world.dice.events(3.0) {
                let address = BATCH.address(world.dice.below(BATCH.instances));
                world.reject(&BATCH, address, 1);
            }
        });
        world.pass(60_000, normal);
        let storm = world.one_storm(Kind::MaxclientsRejection, "batch");
        assert!(delay(&storm, onset) <= 1_000, "{storm:#?}");
    }
}

#[test]
fn a_leak_is_found_before_the_limit_and_told_with_the_time_that_is_left() {
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        world.set_limit(4_000);
        let leaking = BATCH.address(seed % BATCH.instances);
        world.pass(100_000, |world| {
            normal(world);
            let leaked = world.dice.events(1.5);
            world.open(&BATCH, leaking, leaked);
        });
        let last = world.moment();
        world.close(leaking, 5_000);
        world.pass(60_000, normal);
        let storm = world.one_storm(Kind::ConnectionGrowth, "batch");
        let ended = storm.ended.expect("it is over").since(last);
        assert!(ended < 500, "over {ended} ms after the last of it");
        let grown = storm.evidence.iter().find(|figure| figure.name == "grown");
        assert!(grown.is_some_and(|grown| grown.value > 100.0), "{storm:#?}");
        assert!(
            storm.summary.starts_with("connection growth, "),
            "{}",
            storm.summary
        );
        assert!(storm.culprits[0].share > 0.9, "{storm:#?}");
        let left = storm.evidence.iter().find(|figure| figure.name == "time_left");
        assert!(left.is_some_and(|left| left.value > 0.0 && left.unit == "seconds"));
    }
}

#[test]
fn an_announced_restart_is_expected() {
    use crate::storms::{Expectation, Moment};
    let covering = |workload: &str| Expectation {
        until: Moment(u64::MAX),
        server: None,
        workload: Some(workload.into()),
    };
    for (workload, expected) in [("cart-*", true), ("batch", false)] {
        let mut world = quiet(1);
        world.expect(vec![covering(workload)]);
        world.pass(2_000, |world| {
            for address in CART.addresses() {
                let closed = world.close(address, 1);
                world.open(&CART, address, closed);
            }
        });
        world.pass(60_000, normal);
        let storm = world.one_storm(Kind::ColdReconnect, "cart-api");
        assert_eq!(storm.expected, expected, "{workload}");
    }
}

#[test]
fn a_ragged_storm_is_one() {
    let mut world = quiet(3);
    for _ in 0..5 {
        world.pass(1_000, |world| {
            for address in CART.addresses() {
                world.give_up(address, 2);
                world.open(&CART, address, 2);
            }
        });
        world.pass(9_000, normal);
    }
    world.pass(60_000, normal);
    let storm = world.one_storm(Kind::ReconnectChurn, "cart-api");
    assert!(storm.ended.expect("over").since(storm.onset) > 40_000);
}

#[test]
fn every_scenario_of_any_size_is_found_by_its_name_with_whoever_does_it() {
    use super::scenarios::{ALL, live, usual};
    for scenario in &ALL {
        for seed in 0..SEEDS {
            let (mut world, cast) = usual(seed);
            world.assert_silent();
            let onset = (scenario.play)(&mut world, &cast);
            live(&mut world, &cast, 40_000);
            let storm = world.one_storm(scenario.kind, scenario.culprit);
            let heard = world.heard(scenario.kind, scenario.culprit).expect("told");
            assert!(heard.since(Moment(onset)) <= scenario.within, "{storm:#?}");
            assert!(
                !world.misheard(scenario.kind, scenario.culprit),
                "{:#?}",
                world.events
            );
        }
    }
}
