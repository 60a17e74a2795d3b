//! Normal life for as long as one likes, drawn at random: days and nights, weekends, deploys, scaling by and by and in steps, batches, short
//! connections by design, backups, full synchronisations, failovers, short stalls; of fleets and with traffic of any size, a few of them of no
//! workload that anybody has named.

use super::simulator::{BATCH, CART, Fleet, LINK, Load, USUAL, World};

const DAY: u64 = 86_400_000;
const HOUR: u64 = 3_600_000;

/// An autoscaler that has just taken instances away waits before it adds some: what comes back sooner is a restart.
const REST: u64 = 600_000;

/// What goes on.
pub(super) struct Life {
    cart: Fleet,
    day: Fleet,
    /// What is asked by how much more or less than usual.
    scale: f64,
    held_by_day: u64,
    cron: Fleet,
    /// Instances of the deploy that goes on that are still to be replaced, and when the next one is.
    deploy: Option<(u64, u64)>,
    /// The batch that runs, and until when.
    batch: Option<(Fleet, u64)>,
    readers: Option<(Fleet, u64)>,
    /// Instances of a step that are still to come, and the step until it goes.
    step: Option<(u64, Fleet, u64)>,
    /// When the last one went.
    stepped: u64,
    synchronises_until: u64,
    stalled_until: u64,
    redirected_until: u64,
}

impl Life {
    /// With what is there from the beginning.
    pub(super) fn begin(world: &mut World) -> Self {
        let cart = Fleet {
            instances: 40 + world.dice.below(160),
            pool: 2 + world.dice.below(12),
            workload: CART.workload.filter(|_| world.dice.below(4) > 0),
            ..CART
        };
        // From a tenth to ten times as much.
        let scale = 10_f64.powf(2.0 * world.dice.share() - 1.0);
        let (instances, pool) = (50 + world.dice.below(200), 2 + world.dice.below(12));
        world.adopt(&cart);
        world.adopt(&BATCH);
        world.loads = USUAL.to_vec();
        let fleet = |workload, network, instances, pool| Fleet {
            workload: Some(workload),
            network,
            instances,
            pool,
            ..BATCH
        };
        Self {
            cart,
            scale,
            day: fleet("web", 13, instances, pool),
            held_by_day: 0,
            cron: fleet("cron", 11, 8, 1),
            deploy: None,
            batch: None,
            readers: None,
            step: None,
            stepped: 0,
            synchronises_until: 0,
            stalled_until: 0,
            redirected_until: 0,
        }
    }

    /// A tick of it.
    pub(super) fn tick(&mut self, world: &mut World) {
        let now = world.elapsed();
        let busy = busy(now);
        self.turn_over(world, busy);
        if now.is_multiple_of(1_000) {
            self.breathe(world, busy);
            self.happen(world, now);
            self.ask(world, now, busy);
        }
        world.queue(0, 0);
        if now < self.stalled_until {
            let waiting = world.dice.below(200);
            world.queue(waiting, 0);
        }
        world.tick();
    }

    /// Connections die and are opened again, a few by somebody who gave up; short ones come and go.
    fn turn_over(&self, world: &mut World, busy: f64) {
        for _ in 0..world.dice.events(0.1 * busy) {
            let address = self.cart.address(world.dice.below(self.cart.instances));
            let closed = if world.dice.below(20) == 0 {
                world.give_up(address, 1);
                1
            } else {
                world.close(address, 1)
            };
            world.open(&self.cart, address, closed);
        }
        for _ in 0..world.dice.events(0.5 * busy) {
            let address = self.cron.address(world.dice.below(self.cron.instances));
            world.close(address, 1);
            world.open(&self.cron, address, 1);
        }
    }

    /// The fleet of the day grows and shrinks, two instances a second at most.
    fn breathe(&mut self, world: &mut World, busy: f64) {
        let wanted = (self.day.instances as f64 * busy / 2.0) as u64;
        for _ in 0..2 {
            if self.held_by_day < wanted.min(self.day.instances) {
                world.open(&self.day, self.day.address(self.held_by_day), self.day.pool);
                self.held_by_day += 1;
            } else if self.held_by_day > wanted {
                self.held_by_day -= 1;
                world.close(self.day.address(self.held_by_day), self.day.pool);
            }
        }
    }

    /// What happens now and then.
    fn happen(&mut self, world: &mut World, now: u64) {
        let mut sometimes = |every: u64| world.dice.below(every / 1_000) == 0;
        let (deploys, batches, stalls, fails_over) = (
            sometimes(6 * HOUR),
            sometimes(HOUR),
            sometimes(HOUR / 4),
            sometimes(3 * DAY),
        );
        let (steps, synchronises) = (sometimes(DAY / 2), sometimes(DAY));
        if deploys && self.deploy.is_none() {
            self.deploy = Some((self.cart.instances, now));
        }
        self.go_on_with_deploy(world, now);
        if steps && self.step.is_none() && now > self.stepped + REST {
            let fleet = Fleet {
                network: 14,
                instances: 10 + world.dice.below(30),
                ..self.day
            };
            self.step = Some((fleet.instances, fleet, now + HOUR + world.dice.below(2 * HOUR)));
        }
        self.go_on_with_step(world, now);
        if synchronises {
            self.synchronises_until = now + 10_000 + world.dice.below(50_000);
        }
        if batches && self.batch.is_none() {
            let fleet = Fleet {
                network: 10,
                instances: 20 + world.dice.below(80),
                ..BATCH
            };
            world.open_all(&fleet);
            self.batch = Some((fleet, now + 60_000 + world.dice.below(1_200_000)));
        }
        leave(&mut self.batch, world, now);
        if fails_over && self.readers.is_none() {
            // Those of the replica that failed come over at once, and are told where slots are.
            let fleet = Fleet {
                workload: Some("readers"),
                network: 12,
                instances: 40 + world.dice.below(60),
                ..CART
            };
            world.open_all(&fleet);
            self.readers = Some((fleet, now + 2 * HOUR));
            self.redirected_until = now + 5_000;
        }
        leave(&mut self.readers, world, now);
        if stalls {
            self.stalled_until = now + 200 + 100 * world.dice.below(6);
        }
    }

    /// Pod by pod, one every one to two seconds.
    fn go_on_with_deploy(&mut self, world: &mut World, now: u64) {
        let Some((left, next)) = self.deploy.filter(|(_, next)| now >= *next) else {
            return;
        };
        let address = self.cart.address(left - 1);
        let closed = world.close(address, self.cart.pool);
        world.open(&self.cart, address, closed);
        let next = next.max(now) + 1_000 + 1_000 * world.dice.below(2);
        self.deploy = (left > 1).then_some((left - 1, next));
    }

    /// An autoscaler adds instances at once; they come five in a second, and go together.
    fn go_on_with_step(&mut self, world: &mut World, now: u64) {
        let Some((left, fleet, until)) = &mut self.step else {
            return;
        };
        for _ in 0..(*left).min(5) {
            *left -= 1;
            world.open(fleet, fleet.address(*left), fleet.pool);
        }
        if now >= *until {
            world.close_all(fleet);
            (self.step, self.stepped) = (None, now);
        }
    }

    /// What is asked in this second.
    fn ask(&self, world: &mut World, now: u64, busy: f64) {
        let noise = 0.8 + 0.4 * world.dice.share();
        let stalled = now < self.stalled_until;
        let slower = if stalled { 20.0 } else { 0.7 + 0.3 * busy };
        world.loads.clear();
        world.loads.extend(USUAL.map(|load| {
            load.with(|load| {
                load.commands *= self.scale * busy * noise;
                load.latency *= slower;
                if stalled {
                    (load.commands, load.answered) = (load.commands * 0.8, 0.8);
                }
                if now < self.redirected_until {
                    (load.errors, load.word) = (0.5, "MOVED");
                }
            })
        }));
        let cart = USUAL[0];
        if self.batch.is_some() {
            world.loads.push(Load {
                prefix: "import",
                tenant: Some("batch"),
                commands: 4_000.0 * self.scale * noise,
                ..cart
            });
        }
        // A replica that begins anew is given everything, with a quarter of the link.
        if now < self.synchronises_until {
            world.loads.push(Load {
                prefix: "(replication)",
                tenant: None,
                commands: 100.0,
                gets: LINK / 400,
                ..cart
            });
        }
        // Every night for twenty minutes a dump reads every value; a report now and then is large.
        if (2 * HOUR..2 * HOUR + HOUR / 3).contains(&(now % DAY)) {
            world.loads.push(Load {
                prefix: "dump",
                tenant: None,
                commands: 1_000.0,
                gets: 20_000,
                ..cart
            });
        }
        if world.dice.below(60) == 0 {
            world.loads.push(Load {
                prefix: "report",
                tenant: None,
                commands: 2.0,
                gets: 1 << 20,
                ..cart
            });
        }
    }
}

fn leave(guests: &mut Option<(Fleet, u64)>, world: &mut World, now: u64) {
    if let Some((fleet, _)) = guests.take_if(|(_, until)| now >= *until) {
        world.close_all(&fleet);
    }
}

/// How busy it is: from 0.2 by night to 1.8 in the afternoon; on the last two days of a week, the half of it.
fn busy(now: u64) -> f64 {
    let hour = (now % DAY) as f64 / HOUR as f64;
    let of_day = 1.0 + 0.8 * ((hour - 14.0) / 24.0 * std::f64::consts::TAU).cos();
    if now / DAY % 7 < 5 { of_day } else { of_day / 2.0 }
}

#[test]
fn a_night_and_a_morning_of_everything_are_silent() {
    for seed in 0..4 {
        let mut world = World::new(seed);
        let mut life = Life::begin(&mut world);
        while world.elapsed() < 8 * HOUR {
            life.tick(&mut world);
        }
        world.assert_silent();
    }
}
