//! What is told of a storm, and how often.

use super::simulator::{BATCH, CART, Fleet, World};
use crate::storms::{Event, Expectation, Moment};

fn quiet(seed: u64) -> World {
    let mut world = World::new(seed);
    world.adopt(&CART);
    world.adopt(&BATCH);
    world.pass(60_000, |_| {});
    world
}

/// Everybody of a fleet replaces a connection.
fn replace(world: &mut World, fleet: &Fleet) {
    for address in fleet.addresses() {
        let closed = world.close(address, 1);
        world.open(fleet, address, closed);
    }
}

#[test]
fn the_storm_of_a_server_that_is_gone_is_over_and_expected_if_that_was_announced() {
    for announced in [false, true] {
        let mut world = quiet(1);
        world.pass(3_000, |world| replace(world, &CART));
        if announced {
            world.expect(vec![Expectation {
                until: Moment(u64::MAX),
                server: None,
                workload: Some("cart-api".into()),
            }]);
        }
        world.leave();
        let last = world.events.last().expect("events");
        assert!(matches!(last, Event::Ended(_)), "{last:?}");
        assert_eq!(last.storm().expected, announced);
        assert_eq!(world.over(), [last.storm().clone()], "as it was told");
    }
}

#[test]
fn two_fleets_with_equal_parts_do_not_take_turns_in_what_is_told() {
    for seed in 0..20 {
        let mut world = quiet(seed);
        let other = Fleet {
            workload: Some("search"),
            network: 3,
            ..CART
        };
        world.adopt(&other);
        world.pass(120_000, |_| {});
        world.pass(30_000, |world| {
            // The one now, the other then: in turn they have a little more.
            let fleet = if world.dice.below(2) == 0 { CART } else { other };
            replace(world, &fleet);
        });
        world.pass(60_000, |_| {});
        let changes = world
            .events
            .iter()
            .filter(|event| matches!(event, Event::Changed(_)));
        let leaders: Vec<_> = world
            .events
            .iter()
            .filter_map(|event| Some(event.storm().culprits.first()?.name.clone()))
            .collect();
        let turns = leaders.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(turns <= 1, "{leaders:?}");
        // Kinds and severity may rise in the first seconds, then it is once in ten.
        assert!(changes.count() <= 4 + 4, "{:#?}", world.events);
    }
}
