//! Storms of commands and bytes, in twenty seeds each: the right kind, the right culprit, within two seconds, once. And the
//! life in which nothing may be found.

use std::collections::BTreeSet;

use super::simulator::{BEGINNING, CART as FLEET, Fleet, LINK, Load, USUAL, World};
use crate::storms::{Kind, Storm};

const SEEDS: u64 = 20;

const CART: Load = USUAL[0];
const SEARCH: Load = USUAL[2];
const PROMO: Load = USUAL[3];

/// A server in its normal life for two minutes.
fn quiet(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..100 + world.dice.below(40) {
        world.second(&USUAL);
    }
    world.assert_silent();
    world
}

/// The usual life with one load changed, for so many seconds.
fn changed(world: &mut World, seconds: u64, of: &str, change: impl Fn(&mut Load) + Copy) {
    for _ in 0..seconds {
        let loads = USUAL.map(|load| {
            if load.prefix == of {
                load.with(change)
            } else {
                load
            }
        });
        world.second(&loads);
    }
}

/// A storm of six seconds in twenty seeds, and peace after it.
fn storms(kind: Kind, culprit: &str, storm: impl Fn(&mut World)) -> Vec<Storm> {
    (0..SEEDS)
        .map(|seed| {
            let mut world = quiet(seed);
            let onset = world.moment().0;
            storm(&mut world);
            for _ in 0..60 {
                world.second(&USUAL);
            }
            let storm = world.one_storm(kind, culprit);
            assert!(storm.found.0 - onset <= 2_000, "{storm:#?}");
            let joins = |other: &Kind| {
                *other == kind || (kind == Kind::RetryAmplification && *other == Kind::HotPrefix)
            };
            assert!(storm.kinds.iter().all(joins), "{storm:#?}");
            storm
        })
        .collect()
}

fn evidence(storm: &Storm, name: &str) -> f64 {
    let figure = storm.evidence.iter().find(|figure| figure.name == name);
    figure.unwrap_or_else(|| panic!("no {name} in {storm:#?}")).value
}

#[test]
fn commands_that_fail_by_the_dozen_are_an_error_burst() {
    let found = storms(Kind::ErrorBurst, "search", |world| {
        changed(world, 6, "search", |load| (load.errors, load.word) = (0.6, "OOM"));
    });
    for storm in found {
        assert!(evidence(&storm, "errors_oom") > 1_000.0, "{storm:#?}");
        assert!(storm.summary.contains("errors in"), "{}", storm.summary);
    }
}

#[test]
fn values_much_larger_than_usual_are_found_with_their_prefix() {
    let found = storms(Kind::OversizedValues, "promo", |world| {
        changed(world, 6, "promo", |load| {
            // Within what the link carries.
            (load.commands, load.gets) = (30.0, 2 << 20);
        });
    });
    for storm in found {
        assert!(evidence(&storm, "share_of_bytes") > 0.6, "{storm:#?}");
        assert!(evidence(&storm, "bytes_per_value") > 1e6, "{storm:#?}");
    }
}

#[test]
fn a_prefix_that_takes_the_server_from_the_others_is_hot() {
    let found = storms(Kind::HotPrefix, "checkout", |world| {
        for _ in 0..6 {
            let loads = USUAL.map(|load| load.with(|load| load.latency *= 8.0));
            let [cart, rest @ ..] = loads;
            let [session, search, promo] = rest;
            world.second(&[cart.with(|load| load.commands *= 12.0), session, search, promo]);
        }
    });
    for storm in found {
        assert!(evidence(&storm, "others_slower") > 4.0, "{storm:#?}");
        assert!(evidence(&storm, "share_of_commands") > 0.5, "{storm:#?}");
    }
}

#[test]
fn a_server_that_has_next_to_no_cpu_time_is_slow_for_another_reason() {
    for (busy, found) in [(0.04, 0), (0.8, 1)] {
        let mut world = quiet(1);
        world.busy = Some(busy);
        for _ in 0..6 {
            let loads = USUAL.map(|load| load.with(|load| load.latency *= 8.0));
            let [cart, rest @ ..] = loads;
            let [session, search, promo] = rest;
            world.second(&[cart.with(|load| load.commands *= 12.0), session, search, promo]);
        }
        let storms = world.storms();
        assert_eq!(storms.len(), found, "{storms:#?}");
        for storm in storms {
            assert!((evidence(&storm, "busy") - busy).abs() < 1e-9, "{storm:#?}");
        }
    }
}

#[test]
fn clients_that_send_more_while_the_server_answers_less_amplify() {
    let found = storms(Kind::RetryAmplification, "login", |world| {
        for _ in 0..6 {
            let loads = USUAL.map(|load| {
                load.with(|load| {
                    (load.answered, load.latency) = (0.3, 0.4);
                    if load.prefix == "session" {
                        load.commands *= 2.2;
                    }
                })
            });
            world.second(&loads);
        }
    });
    for storm in found {
        assert!(evidence(&storm, "amplification") > 1.4, "{storm:#?}");
    }
}

#[test]
fn a_tenth_of_the_clients_that_ask_again_and_again_is_enough_where_the_others_wait() {
    let found = storms(Kind::RetryAmplification, "search", |world| {
        for _ in 0..6 {
            let loads = USUAL.map(|load| {
                load.with(|load| {
                    load.answered = 0.1;
                    // Whoever waits asks less.
                    load.commands *= if load.prefix == "search" { 3.0 } else { 0.7 };
                })
            });
            world.second(&loads);
        }
    });
    for storm in found {
        assert!(evidence(&storm, "amplification") > 2.0, "{storm:#?}");
        assert!(
            evidence(&storm, "commands_per_second") < evidence(&storm, "usual_commands_per_second"),
            "{storm:#?}"
        );
    }
}

#[test]
fn clients_that_close_and_ask_again_elsewhere_are_no_amplification() {
    let fleet = Fleet { pool: 20, ..FLEET };
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        world.long_tick(1);
        for _ in 0..6 {
            // At a server that does not answer all of a fleet time out, close their connections, and ask on others.
            world.open_all(&fleet);
            for address in fleet.addresses() {
                world.give_up(address, fleet.pool);
            }
            world.long_tick(1);
            let loads = USUAL.map(|load| {
                load.with(|load| {
                    load.answered = 0.0;
                    load.commands = if load.prefix == "cart" { 3_000.0 } else { 0.0 };
                })
            });
            world.second(&loads);
        }
        let kinds: Vec<_> = world.storms().into_iter().flat_map(|storm| storm.kinds).collect();
        assert!(!kinds.contains(&Kind::RetryAmplification), "{kinds:?}");
    }
}

#[test]
fn a_pool_that_asks_on_all_its_connections_and_waits_is_no_amplification_until_it_asks_again() {
    let stopped = |cart: f64| {
        USUAL.map(|load| {
            load.with(|load| {
                load.answered = 0.0;
                load.commands = if load.prefix == "cart" { cart } else { 0.0 };
            })
        })
    };
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        world.adopt(&Fleet { pool: 26, ..FLEET });
        world.tick();
        world.second(&stopped(3_300.0));
        for _ in 0..4 {
            world.second(&stopped(0.0));
        }
        world.assert_silent();
        world.second(&stopped(3_300.0));
        let again = world.moment();
        world.second(&stopped(3_300.0));
        let storm = &world.storms()[0];
        assert_eq!(
            (storm.kind, storm.found),
            (Kind::RetryAmplification, again),
            "{storm:#?}"
        );
    }
}

#[test]
fn bytes_near_what_the_link_carries_are_told_with_whose_they_are() {
    let found = storms(Kind::BandwidthSaturation, "search", |world| {
        let much = 0.93 * LINK as f64 / 4_000.0;
        changed(world, 6, "search", |load| load.commands = much);
    });
    for storm in found {
        assert!(evidence(&storm, "share_of_limit") > 0.8, "{storm:#?}");
        assert!(storm.culprits[0].share > 0.9, "{storm:#?}");
    }
}

#[test]
fn a_link_half_full_is_no_storm_and_one_that_is_found_at_once_needs_no_learning() {
    let mut world = World::new(1);
    for _ in 0..60 {
        world.second(&[SEARCH.with(|load| load.commands = 0.5 * LINK as f64 / 4_000.0)]);
    }
    world.assert_silent();
    let mut world = World::new(2);
    for _ in 0..3 {
        world.second(&[SEARCH.with(|load| load.commands = 1.1 * LINK as f64 / 4_000.0)]);
    }
    assert_eq!(
        world.storms().first().map(|storm| storm.kind),
        Some(Kind::BandwidthSaturation)
    );
}

#[test]
fn a_peak_that_is_answered_and_a_batch_that_hurts_nobody_are_silent() {
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        for _ in 0..60 {
            world.second(&USUAL.map(|load| load.with(|load| load.commands *= 3.0)));
        }
        let import = Load {
            prefix: "import",
            tenant: Some("batch"),
            commands: 20_000.0,
            ..CART
        };
        for _ in 0..60 {
            let [cart, session, search, promo] = USUAL.map(|load| load.with(|load| load.latency *= 1.4));
            world.second(&[cart, session, search, promo, import]);
        }
        world.assert_silent();
    }
}

#[test]
fn commands_that_are_on_their_way_when_a_second_ends_do_not_pile_up() {
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        for second in 0..60 {
            // A batch on a slow server: what it asked last in a second is answered in the next one.
            let answered = if second % 2 == 0 { 0.96 } else { 1.04 };
            world.second(&USUAL.map(|load| {
                load.with(|load| (load.commands, load.answered) = (load.commands * 2.0, answered))
            }));
        }
        world.assert_silent();
    }
}

#[test]
fn a_server_that_stops_for_a_second_while_its_clients_wait_is_silent() {
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        for _ in 0..3 {
            // Half of the second nothing is answered, and who waits asks nothing; then it is made up for.
            world.second(
                &USUAL.map(|load| {
                    load.with(|load| (load.commands, load.answered) = (load.commands * 0.6, 0.8))
                }),
            );
            world.second(&USUAL.map(|load| {
                load.with(|load| {
                    (load.commands, load.answered, load.latency) = (load.commands * 1.1, 1.1, 0.1);
                })
            }));
            for _ in 0..30 {
                world.second(&USUAL);
            }
        }
        world.assert_silent();
    }
}

#[test]
fn a_failover_a_deploy_and_a_backup_are_silent() {
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        for word in ["MOVED", "NOSCRIPT"] {
            for _ in 0..5 {
                world.second(&USUAL.map(|load| load.with(|load| (load.errors, load.word) = (0.5, word))));
            }
        }
        // A full synchronisation of a replica, and a dump that reads every value.
        let replica = Load {
            prefix: "(replication)",
            tenant: None,
            commands: 20.0,
            asks: 2 << 20,
            ..CART
        };
        let dump = Load {
            prefix: "cart",
            tenant: None,
            commands: 1_500.0,
            gets: 9_000,
            ..CART
        };
        for _ in 0..30 {
            let [cart, session, search, promo] = USUAL;
            world.second(&[cart, session, search, promo, replica, dump]);
        }
        world.assert_silent();
    }
}

#[test]
fn three_days_and_nights_are_silent() {
    let mut world = World::new(11);
    for second in 0..3 * 86_400_u64 {
        let hour = (second % 86_400) as f64 / 3_600.0;
        let busy = 1.0 + 0.9 * ((hour - 14.0) / 24.0 * std::f64::consts::TAU).cos();
        // Now and then a noisy minute, and a large value.
        let noisy = if second % 5_400 < 60 { 1.6 } else { 1.0 };
        let loads = USUAL.map(|load| {
            load.with(|load| {
                load.commands *= busy * noisy;
                load.latency *= 0.7 + 0.6 * busy * noisy;
                load.errors *= noisy;
            })
        });
        let [cart, session, search, promo] = loads;
        let large = PROMO.with(|load| (load.prefix, load.commands, load.gets) = ("report", 0.02, 1 << 20));
        world.second(&[cart, session, search, promo, large]);
    }
    world.assert_silent();
}

/// A job of forty minutes at three o'clock: large values, or commands that fail.
fn nightly(world: &mut World, second: u64, times: f64) {
    let job = if (10_800..13_200).contains(&(second % 86_400)) {
        times
    } else {
        0.0
    };
    let [cart, session, search, promo] = USUAL;
    let report = PROMO.with(|load| (load.prefix, load.commands, load.gets) = ("report", 25.0 * job, 1 << 20));
    let check = PROMO.with(|load| (load.prefix, load.commands, load.errors) = ("check", 300.0 * job, 1.0));
    world.second(&[cart, session, search, promo, report, check]);
}

#[test]
fn what_a_job_does_every_night_is_told_in_the_first_one_and_more_of_it_in_any() {
    let mut world = World::new(12);
    for second in 0..3 * 86_400 {
        nightly(&mut world, second, 1.0);
    }
    let storms = world.storms();
    let kinds: BTreeSet<Kind> = storms.iter().flat_map(|storm| storm.kinds.clone()).collect();
    assert_eq!(kinds, [Kind::OversizedValues, Kind::ErrorBurst].into());
    let days = |storm: &Storm| (storm.onset.0 - BEGINNING) / 86_400_000;
    assert!(storms.iter().all(|storm| days(storm) == 0), "{storms:#?}");
    for second in 3 * 86_400..4 * 86_400 {
        nightly(&mut world, second, 2.5);
    }
    let storms = world.storms();
    let kinds = storms
        .iter()
        .filter(|storm| days(storm) == 3)
        .flat_map(|storm| storm.kinds.clone());
    assert_eq!(
        kinds.collect::<BTreeSet<_>>(),
        [Kind::OversizedValues, Kind::ErrorBurst].into(),
        "{storms:#?}"
    );
}

#[test]
fn a_batch_that_goes_up_and_down_while_the_server_stalls_is_no_hot_prefix() {
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        for second in 0..300 {
            let slower = if second % 20 >= 18 { 20.0 } else { 1.0 };
            let noise = 0.8 + 0.4 * world.dice.share();
            let [cart, session, search, promo] = USUAL.map(|load| load.with(|load| load.latency *= slower));
            let batch = cart.with(|load| load.commands *= 8.0 * noise);
            world.second(&[batch, session, search, promo]);
        }
        world.assert_silent();
    }
}

#[test]
fn a_server_that_stalls_for_seconds_while_a_batch_runs_has_no_hot_prefix() {
    for seed in 0..SEEDS {
        let mut world = quiet(seed);
        let long = 1 + seed % 3;
        for second in 0..60 {
            let slower = if second % 9 >= 9 - long { 20.0 } else { 1.0 };
            let loads = USUAL.map(|load| load.with(|load| load.latency *= slower));
            let [cart, rest @ ..] = loads;
            let [session, search, promo] = rest;
            world.second(&[cart.with(|load| load.commands *= 8.0), session, search, promo]);
        }
        world.assert_silent();
    }
}
