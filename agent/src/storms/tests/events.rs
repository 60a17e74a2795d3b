//! What is told of a storm, and how often.

use super::simulator::{BATCH, BEGINNING, CART, Fleet, World};
use crate::config::Storms;
use crate::storms::{ClientDetail, Detail, Engine, Event, Expectation, Kind, Moment, Observation};

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

/// A server with a queue of a hundred, which is full or empty.
fn queue_of_hundred(full: bool, opened_total: u64) -> Observation {
    Observation {
        connections: 100,
        queue_limit: 100,
        queue_length: if full { 100 } else { 0 },
        opened_total,
        ..Observation::default()
    }
}

/// An instance of `cart-api`.
fn cart_api(host: u64, opened: u64, connections: u64) -> ClientDetail {
    ClientDetail {
        address: CART.address(host),
        workload: Some("cart-api".into()),
        library: None,
        user: None,
        opened,
        connections,
    }
}

#[test]
fn whoever_makes_a_storm_is_looked_for_until_it_is_known() {
    let mut engine = Engine::new(Storms::default());
    let (mut opened, mut looks) = (0, Vec::new());
    for tick in 0..500_u64 {
        // A full queue before which nobody gets anywhere for ten seconds, and then one of those who wait.
        let full = (300..450).contains(&tick);
        opened += u64::from(full && tick >= 400);
        let seen = queue_of_hundred(full, opened);
        let mut detail = || {
            looks.push(tick);
            Some(Detail {
                clients: vec![cart_api(1, opened, 100)],
            })
        };
        engine.observe("server", Moment(BEGINNING + 100 * tick), &seen, &mut detail);
    }
    let within = |from, to| looks.iter().filter(|tick| (from..to).contains(*tick)).count();
    assert_eq!(
        within(350, 400),
        50,
        "in every tick while nobody is known: {looks:?}"
    );
    assert!(within(410, 450) <= 3, "then every two seconds: {looks:?}");
}

/// A server that stands still for a second, whose clients give up and come again.
fn churn(world: &mut World) {
    world.pass(1_000, |world| {
        for address in CART.addresses() {
            world.give_up(address, 2);
            world.open(&CART, address, 2);
        }
    });
}

#[test]
fn a_storm_is_over_when_it_showed_for_the_last_time() {
    let mut world = quiet(1);
    churn(&mut world);
    let churned = world.moment();
    world.pass(30_000, |_| {});
    let storm = world.one_storm(Kind::ReconnectChurn, "cart-api");
    assert_eq!(storm.ended, Some(churned));

    let mut world = quiet(2);
    world.pass(1_200, |world| replace(world, &CART));
    let replaced = world.moment();
    world.pass(30_000, |_| {});
    let storm = world.one_storm(Kind::ColdReconnect, "cart-api");
    assert_eq!(storm.ended, Some(replaced));
}

#[test]
fn a_churn_within_ten_seconds_of_another_is_the_same_storm_and_one_after_them_is_another() {
    for seconds in 1..=20 {
        let mut world = quiet(seconds);
        churn(&mut world);
        world.pass(1_000 * seconds, |_| {});
        churn(&mut world);
        let churned = world.moment();
        world.pass(60_000, |_| {});
        let storms = world.storms();
        let expected = if seconds < 10 { 1 } else { 2 };
        assert_eq!(storms.len(), expected, "{seconds} s: {storms:#?}");
        assert!(
            storms.iter().all(|storm| storm.kind == Kind::ReconnectChurn),
            "{seconds} s: {storms:#?}"
        );
        let last = storms.iter().filter_map(|storm| storm.ended).max();
        assert_eq!(last, Some(churned), "{seconds} s: {storms:#?}");
    }
}

#[test]
fn who_does_it_is_known_from_the_first_look_on() {
    for seconds in [1, 3, 8] {
        let mut world = World::new(seconds);
        world.adopt(&CART);
        world.adopt(&BATCH);
        world.pass(1_000 * seconds, |_| {});
        churn(&mut world);
        let Some(Event::Started(storm)) = world.events.first() else {
            panic!("no storm: {:?}", world.events);
        };
        assert_eq!(storm.culprits[0].name, "cart-api", "{storm:#?}");
        world.pass(60_000, |_| {});
        world.one_storm(Kind::ReconnectChurn, "cart-api");
    }
}

/// Every second somebody looks; here in the second in which a queue fills, of which nothing shows yet.
#[test]
fn who_filled_a_queue_is_known_even_if_the_last_quiet_look_saw_them_come() {
    for look_at in [FULL, FULL + 1, FULL + 2, FULL + 3] {
        let mut engine = Engine::new(Storms::default());
        let mut events = Vec::new();
        for tick in 0..FULL + 50 {
            let waiting = if tick >= FULL { 60 } else { 0 };
            let seen = Observation {
                connections: waiting,
                queue_limit: 64,
                queue_length: waiting,
                opened_total: waiting,
                ..Observation::default()
            };
            let detail = Detail {
                clients: (1..=waiting).map(|host| cart_api(host, 1, 1)).collect(),
            };
            let now = Moment(BEGINNING + 100 * tick);
            if tick == FULL - 50 || tick == look_at {
                engine.remember("server", now, &detail);
            }
            events.extend(engine.observe("server", now, &seen, &mut || Some(detail.clone())));
        }
        let mut storms = events.iter().map(Event::storm);
        let Some(storm) = storms.find(|storm| !storm.culprits.is_empty()) else {
            panic!("nobody is known, looked at in tick {look_at}: {events:#?}");
        };
        assert_eq!(storm.culprits[0].name, "cart-api", "{look_at}");
    }
}

/// The tick from which the queue of [`full_queue`] is full.
const FULL: u64 = 300;

/// What is told of a queue that is full for twenty seconds, each event with its tick; who waits in it is known some ticks later.
fn full_queue(announced: Option<&str>, known_after: u64) -> Vec<(u64, Event)> {
    let mut engine = Engine::new(Storms::default());
    let expectations = announced.map(|workload| Expectation {
        until: Moment(u64::MAX),
        server: Some("serv*".into()),
        workload: Some(workload.into()),
    });
    engine.expect(expectations.into_iter().collect());
    let (mut opened, mut told) = (0, Vec::new());
    for tick in 0..FULL + 400 {
        let full = (FULL..FULL + 200).contains(&tick);
        opened += u64::from(full && tick >= FULL + known_after);
        let seen = queue_of_hundred(full, opened);
        let mut detail = || {
            Some(Detail {
                clients: vec![cart_api(1, opened, 100)],
            })
        };
        let now = Moment(BEGINNING + 100 * tick);
        let events = engine.observe("server", now, &seen, &mut detail);
        told.extend(events.into_iter().map(|event| (tick, event)));
        let is_shown = engine.active().next().is_some();
        assert!(!is_shown || !told.is_empty(), "shown before it is told: {tick}");
    }
    told
}

#[test]
fn a_storm_that_may_have_been_announced_is_held_until_it_is_known_who_it_is_or_for_a_second() {
    let begun = |told: &[(u64, Event)]| {
        let Some((tick, Event::Started(storm))) = told.first() else {
            panic!("not begun: {told:#?}");
        };
        assert!(matches!(told.last(), Some((_, Event::Ended(_)))), "{told:#?}");
        (*tick, storm.expected)
    };
    let (at_once, expected) = begun(&full_queue(None, 4));
    assert!(!expected);
    let (later, expected) = begun(&full_queue(Some("cart-*"), 4));
    assert!(expected, "nobody is woken");
    assert!((at_once + 1..=at_once + 5).contains(&later), "{later} {at_once}");
    let (later, expected) = begun(&full_queue(Some("batch"), 4));
    assert!(!expected, "somebody else");
    assert!((at_once + 1..=at_once + 5).contains(&later), "{later} {at_once}");

    let told = full_queue(Some("cart-*"), 30);
    assert_eq!(begun(&told), (at_once + 10, false), "a second is enough");
    let changed = told.iter().find(|(_, event)| event.storm().expected);
    let Some((tick, Event::Changed(_))) = changed else {
        panic!("{told:#?}");
    };
    assert!((FULL + 30..=FULL + 32).contains(tick), "{tick}");
}
