//! Storms of prefixes that are shown as hashes, and a switch that is thrown while one goes on.

use super::simulator::{Load, USUAL, World};
use crate::storms::{Event, Kind};
use crate::tenants::PrefixNames;

/// A prefix without a tenant: it leads itself.
const PROMO: &str = "promo";

fn hashed() -> PrefixNames {
    PrefixNames::hashed(b"0123456789abcdef")
}

fn quiet() -> World {
    let mut world = World::new(7);
    for _ in 0..120 {
        world.second(&USUAL);
    }
    world.assert_silent();
    world
}

/// Values much larger than usual, for a second.
fn storm(world: &mut World) {
    let larger = |load: &mut Load| (load.commands, load.gets) = (30.0, 2 << 20);
    world.second(&USUAL.map(|load| {
        if load.prefix == PROMO {
            load.with(larger)
        } else {
            load
        }
    }));
}

fn calm(world: &mut World) {
    for _ in 0..60 {
        world.second(&USUAL);
    }
}

/// Everything that is said of a storm: what is evidence for a prefix there, and what for its hash.
fn says(event: &Event, name: &str) -> bool {
    let storm = event.storm();
    let summary = format!("prefix {name}");
    let is_named = storm.culprits.iter().any(|culprit| culprit.name == name);
    assert_eq!(is_named, storm.summary.ends_with(&summary), "{storm:#?}");
    assert!(is_named || !format!("{storm:?}").contains(name), "{storm:#?}");
    is_named
}

#[test]
fn a_prefix_that_leads_is_told_by_its_hash_alone() {
    let mut world = quiet();
    world.show_prefixes_as(hashed());
    for _ in 0..6 {
        storm(&mut world);
    }
    calm(&mut world);
    let hash = hashed().of(PROMO).into_owned();
    world.one_storm(Kind::OversizedValues, &hash);
    assert!(
        world
            .events
            .iter()
            .all(|event| says(event, &hash) && !says(event, PROMO))
    );
    assert_eq!(world.over()[0].culprits[0].name, hash);
}

#[test]
fn a_switch_in_a_storm_tells_it_anew_under_the_new_name_and_it_stays_one_storm() {
    let mut world = quiet();
    let hash = hashed().of(PROMO).into_owned();
    let mut from = 0;
    for (names, shown, other) in [
        (PrefixNames::default(), PROMO, &*hash),
        (hashed(), &*hash, PROMO),
        (PrefixNames::default(), PROMO, &*hash),
    ] {
        world.show_prefixes_as(names.clone());
        // What goes on says so at once; the same again is no news.
        let told = world.events.len();
        world.show_prefixes_as(names);
        assert_eq!(world.events.len(), told);
        for _ in 0..3 {
            storm(&mut world);
        }
        let events = &world.events[from..];
        assert!(!events.is_empty());
        assert!(
            events
                .iter()
                .all(|event| says(event, shown) && !says(event, other))
        );
        from = world.events.len();
    }
    calm(&mut world);
    world.one_storm(Kind::OversizedValues, PROMO);
}

#[test]
fn a_storm_that_is_over_is_not_shown_under_a_name_that_is_no_longer_used() {
    let mut world = quiet();
    for _ in 0..6 {
        storm(&mut world);
    }
    calm(&mut world);
    world.show_prefixes_as(PrefixNames::default());
    assert_eq!(world.over().len(), 1);
    world.show_prefixes_as(hashed());
    assert_eq!(world.over(), []);
}

#[test]
fn what_is_usual_of_a_prefix_is_not_forgotten_when_its_name_changes() {
    let mut world = quiet();
    world.show_prefixes_as(hashed());
    calm(&mut world);
    world.assert_silent();
}
