//! Incidents from the first sample to the file and back.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::file::{MAGIC, decode, encode};
use super::*;
use crate::alerts::testing::storm as told_storm;
use crate::config::{Incidents, Settings};
use crate::storms::{ClientDetail, Detail, Moment, Observation, Storm, Traffic as Counted, TrafficRow};

const BEGIN: u64 = 1_795_412_506_000;
const LABEL: &str = "valkey-server:6379";

fn settings(text: &str) -> Incidents {
    let text = format!("[incidents]\n{text}");
    let settings = Settings::parse(std::path::Path::new("test.toml"), &text);
    settings.expect("a good configuration").incidents
}

fn storm(id: &str, ended: Option<Moment>) -> Storm {
    Storm {
        ended,
        ..told_storm(id)
    }
}

/// A flight recorder with a clock, fed with a server that opens three connections a tick.
struct Cockpit {
    flight: Flight,
    tick: u64,
    records: Vec<(String, Record)>,
}

impl Cockpit {
    fn new(settings: Incidents) -> Self {
        Self {
            flight: Flight::new(settings, "1.2.3"),
            tick: 0,
            records: Vec::new(),
        }
    }

    fn now(&self) -> Moment {
        Moment(BEGIN + 100 * self.tick)
    }

    fn keep(&mut self, works: impl IntoIterator<Item = Work>) {
        for work in works {
            let records = work.records.into_iter();
            self.records
                .extend(records.map(|record| (work.id.clone(), record)));
        }
    }

    /// Each tick opens three connections; each second `batch` asks ten times as much as `web`, and nine others once.
    fn fly(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tick += 1;
            let seen = Observation {
                connections: 3 * self.tick,
                opened_total: 3 * self.tick,
                queue_length: self.tick % 2,
                ..Observation::default()
            };
            let work = self.flight.note(LABEL, self.now(), &seen);
            self.keep(work);
            if self.tick.is_multiple_of(10) {
                let work = self.flight.traffic(LABEL, self.now(), &second());
                self.keep(work);
            }
        }
    }

    fn storm(&mut self, storm: &Storm) {
        let works = self.flight.storm(self.now(), storm);
        self.keep(works);
    }

    /// The file of an incident.
    fn file(&self, id: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let own = self.records.iter().filter(|(known, _)| known == id);
        for (_, record) in own {
            bytes.extend(encode(record).expect("encoded"));
        }
        bytes
    }
}

fn second() -> Counted {
    let row = |tenant: Option<&str>, commands: u64| TrafficRow {
        tenant: tenant.map(Into::into),
        commands,
        answered: commands / 2,
        seconds: (commands / 2) as f64 * 300e-6,
        bytes_in: 10 * commands,
        bytes_out: 100 * commands,
        errors: vec![("OOM", commands / 100), ("WRONGTYPE", commands / 100)],
        ..TrafficRow::default()
    };
    let few = (0..9).map(|one| row(Some(&format!("few-{one}")), 1));
    let rows = [
        row(Some("web"), 50),
        row(Some("batch"), 500),
        row(Some("web"), 50),
        row(None, 20),
    ];
    Counted {
        milliseconds: 1_000,
        bytes_in: 7_000,
        bytes_out: 70_000,
        rows: rows.into_iter().chain(few).collect(),
        ..Counted::default()
    }
}

/// Ten seconds of a storm with five before and five after it, and what else is recorded.
fn whole() -> Cockpit {
    recorded(5, 10, 60)
}

/// So many seconds before and after, and in between, with so many clients.
fn recorded(around: u64, seconds: u64, clients: u8) -> Cockpit {
    let text = format!("before_seconds = {around}\nafter_seconds = {around}");
    let mut cockpit = Cockpit::new(settings(&text));
    cockpit.fly(200);
    cockpit.storm(&storm("1-1", None));
    let clients = (0..clients).map(|host| ClientDetail {
        address: [10, 1, 0, host].into(),
        workload: Some(Arc::from(if host < 40 { "cart-api" } else { "batch" })),
        library: None,
        user: None,
        opened: u64::from(host),
        connections: 2,
    });
    let detail = Detail {
        clients: clients.collect(),
    };
    for _ in 0..seconds {
        cockpit.fly(10);
        let (now, work) = (cockpit.now(), &mut cockpit.flight);
        let work = work.clients(LABEL, now, &detail);
        cockpit.keep(work);
    }
    let tenants = TenantsAt {
        at: cockpit.now(),
        tenants: vec![TenantAt {
            tenant: "checkout".into(),
            commands: 7,
            bytes_in: 70,
            bytes_out: 700,
            errors: 1,
        }],
    };
    let work = cockpit.flight.tenants(LABEL, tenants);
    cockpit.keep(work);
    cockpit.storm(&storm("1-1", Some(cockpit.now())));
    cockpit.fly(100);
    assert!(!cockpit.flight.is_recording());
    cockpit
}

#[test]
fn an_incident_has_the_time_before_during_and_after_without_a_gap() {
    let cockpit = whole();
    let incident = Incident::read(&cockpit.file("1-1")).expect("readable");
    assert!(incident.complete);
    assert_eq!((incident.format, &*incident.agent), (2, "1.2.3"));
    let samples: Vec<_> = incident.course.samples().collect();
    let first = BEGIN + 100 * 151;
    assert_eq!(samples.len(), 50 + 100 + 50);
    for (number, sample) in samples.iter().enumerate() {
        assert_eq!(sample.at.0, first + 100 * number as u64);
        assert_eq!(
            (sample.opened, sample.connections),
            (3, 3 * (151 + number as u32))
        );
    }
    assert_eq!(incident.told.len(), 2);
    assert_eq!(incident.storm, storm("1-1", Some(Moment(BEGIN + 100 * 300))));
    assert_eq!(incident.tenants[0].tenants[0].bytes_out, 700);
    let ends: Vec<_> = incident.traffic.iter().map(|second| second.at.0).collect();
    let expected: Vec<_> = (16..=34).map(|second| BEGIN + 1_000 * second).collect();
    assert_eq!(ends, expected);
    assert_eq!(incident.clients.len(), 10);
    let Clients {
        workloads, clients, ..
    } = &incident.clients[0];
    let names: Vec<_> = workloads
        .iter()
        .map(|one| (&*one.workload, one.instances, one.connections))
        .collect();
    assert_eq!(names, [("batch", 20, 40), ("cart-api", 40, 80)]);
    assert_eq!((clients.len(), &*clients[0].address), (50, "10.1.0.59"));
    let csv = incident.csv();
    assert_eq!(csv.lines().count(), 201);
    assert_eq!(csv.lines().nth(1), Some(&*format!("{first},453,3,0,0,0,1,0")));
}

#[test]
fn a_second_of_traffic_has_its_sums_and_its_largest_tenants() {
    let incident = Incident::read(&whole().file("1-1")).expect("readable");
    let second = &incident.traffic[3];
    let tenants: Vec<_> = second
        .tenants
        .iter()
        .map(|one| {
            (
                &*one.tenant,
                one.commands,
                one.bytes_in,
                one.bytes_out,
                one.errors,
            )
        })
        .collect();
    assert_eq!(
        tenants[..3],
        [
            ("batch", 500, 5_000, 50_000, 10),
            ("web", 100, 1_000, 10_000, 0),
            ("(unassigned)", 20, 200, 2_000, 0),
        ]
    );
    assert_eq!(tenants.len(), 8);
    assert_eq!(
        *second,
        TrafficAt {
            at: second.at,
            milliseconds: 1_000,
            commands: 629,
            answered: 310,
            latency_microseconds: 300,
            bytes_in: 7_000,
            bytes_out: 70_000,
            errors: 10,
            tenants: second.tenants.clone(),
        }
    );
    let csv = incident.traffic_csv();
    assert_eq!(csv.lines().count(), 20);
    let line = format!("{},1000,629,310,300,7000,70000,10", incident.traffic[0].at.0);
    assert_eq!(csv.lines().nth(1), Some(&*line));
}

#[test]
fn who_the_clients_were_before_is_in_it_at_some_distance_and_no_older_than_the_rest() {
    let mut cockpit = Cockpit::new(settings("before_seconds = 120"));
    let detail = Detail {
        clients: vec![ClientDetail {
            address: [10, 1, 0, 1].into(),
            workload: None,
            library: None,
            user: None,
            opened: 7,
            connections: 7,
        }],
    };
    for _ in 0..20 {
        cockpit.fly(100);
        let work = cockpit.flight.remember(LABEL, cockpit.now(), &detail);
        assert_eq!(work, None);
    }
    cockpit.storm(&storm("1-1", None));
    let onset = cockpit.now();
    cockpit.fly(100);
    let work = cockpit.flight.remember(LABEL, cockpit.now(), &detail);
    cockpit.keep(work);
    let incident = Incident::read(&cockpit.file("1-1")).expect("readable");
    let seconds = |look: &Clients| onset.0.saturating_sub(look.at.0) / 1_000;
    let before: Vec<_> = incident.clients.iter().map(seconds).collect();
    assert_eq!(before, [110, 90, 70, 50, 30, 10, 0]);
    assert_eq!(incident.clients[6].at, cockpit.now());
    assert_eq!(incident.clients[0].clients[0].opened, 7);
}

#[test]
fn form_1_which_had_no_traffic_is_read() {
    let head = Record::Head {
        format: 1,
        agent: "1".into(),
    };
    let bytes = [
        MAGIC,
        &encode(&head).expect("encoded"),
        &encode(&told("1-1")).expect("encoded"),
    ]
    .concat();
    let incident = Incident::read(&bytes).expect("readable");
    let mut page = serde_json::to_value(&incident).expect("JSON");
    page.as_object_mut().expect("an object").remove("traffic");
    let answer: Incident = serde_json::from_value(page).expect("an older agent's answer");
    assert_eq!(answer, incident);
}

#[test]
fn a_file_that_is_cut_anywhere_is_read_up_to_its_last_whole_record() {
    let cockpit = recorded(1, 1, 2);
    let bytes = cockpit.file("1-1");
    let mut ends = vec![MAGIC.len()];
    for (_, record) in &cockpit.records {
        ends.push(ends.last().expect("one") + encode(record).expect("encoded").len());
    }
    for cut in 0..bytes.len() {
        let read = decode(&bytes[..cut]);
        if cut < MAGIC.len() {
            assert_eq!(read, Err(Fault::Empty));
            continue;
        }
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        let expected: Vec<_> = cockpit.records[..whole]
            .iter()
            .map(|(_, record)| record)
            .collect();
        let read = read.unwrap_or_else(|fault| panic!("cut at {cut}: {fault}"));
        assert_eq!(read.iter().collect::<Vec<_>>(), expected, "cut at {cut}");
        // A file system may fill up what was not written.
        let mut padded = bytes[..cut].to_vec();
        padded.resize(bytes.len(), 0);
        if ends.contains(&cut) {
            assert_eq!(decode(&padded).map(|records| records.len()), Ok(whole));
        }
    }
}

#[test]
fn a_changed_byte_is_a_clear_error_unless_it_looks_like_a_cut() {
    let bytes = recorded(1, 1, 2).file("1-1");
    let sound = decode(&bytes).expect("readable");
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        match decode(&changed) {
            Err(Fault::Other) => assert!(at < MAGIC.len()),
            Err(fault) => assert!(matches!(fault, Fault::Damaged(_)), "byte {at}: {fault}"),
            // The last record alone can be taken for one that a crash kept from being written.
            Ok(read) => assert_eq!(read, sound[..sound.len() - 1], "byte {at}"),
        }
    }
    let fault = Incident::read(b"not at all").expect_err("refused");
    assert_eq!(fault.to_string(), "this is no incident of stormglass");
}

#[test]
fn a_newer_form_asks_for_a_newer_version() {
    let newer = Record::Head {
        format: 3,
        agent: "9".into(),
    };
    let bytes = [MAGIC, &encode(&newer).expect("encoded")].concat();
    assert_eq!(Incident::read(&bytes), Err(Fault::Newer(3)));
}

#[test]
fn two_storms_in_a_row_are_two_incidents_and_the_first_is_whole() {
    let mut cockpit = Cockpit::new(settings("after_seconds = 60"));
    cockpit.fly(10);
    cockpit.storm(&storm("1-1", None));
    cockpit.fly(5);
    cockpit.storm(&storm("1-1", Some(cockpit.now())));
    cockpit.fly(5);
    cockpit.storm(&storm("1-2", None));
    cockpit.fly(20);
    let first = Incident::read(&cockpit.file("1-1")).expect("readable");
    let second = Incident::read(&cockpit.file("1-2")).expect("readable");
    assert!(first.complete && !second.complete);
    assert_eq!(first.course.at.len(), 19);
    // The time before the second one is that of the first as well.
    assert_eq!(second.course.at.len(), 39);
}

#[test]
fn a_server_that_goes_ends_its_incident() {
    let mut cockpit = Cockpit::new(settings(""));
    cockpit.fly(3);
    cockpit.storm(&storm("1-1", None));
    cockpit.fly(3);
    let work = cockpit.flight.forget(LABEL, cockpit.now());
    cockpit.keep(work);
    let incident = Incident::read(&cockpit.file("1-1")).expect("readable");
    assert!(incident.complete);
    assert_eq!(incident.course.at.len(), 5);
}

#[test]
fn memory_is_bounded_however_many_servers_there_are() {
    let mut flight = Flight::new(settings("before_seconds = 1"), "1");
    for tick in 0..30_u64 {
        for server in 0..150 {
            let label = format!("s:{server}");
            let work = flight.note(&label, Moment(BEGIN + 100 * tick), &Observation::default());
            assert_eq!(work, None);
        }
    }
    let storm_of = |label: &str| Storm {
        server: label.into(),
        ..storm("1-1", None)
    };
    let past = |works: Vec<Work>| {
        let records = works.into_iter().flat_map(|work| work.records);
        records
            .map(|record| match record {
                Record::Course(course) => course.at.len(),
                _ => 0,
            })
            .sum::<usize>()
    };
    assert_eq!(past(flight.storm(Moment(BEGIN + 3000), &storm_of("s:7"))), 10);
    assert_eq!(past(flight.storm(Moment(BEGIN + 3000), &storm_of("s:149"))), 0);
}

fn work(id: &str, records: impl IntoIterator<Item = Record>) -> Work {
    Work {
        id: id.into(),
        records: records.into_iter().collect(),
    }
}

fn head() -> Record {
    Record::Head {
        format: 1,
        agent: "1".into(),
    }
}

fn told(id: &str) -> Record {
    Record::Storm(Told {
        at: Moment(BEGIN),
        storm: storm(id, None),
    })
}

fn end() -> Record {
    Record::End { at: Moment(BEGIN) }
}

/// Waits for the thread that writes.
fn until(archive: &Archive, what: impl Fn(&Archive) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !what(archive) {
        assert!(Instant::now() < deadline, "{:?}", archive.list());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_archive_keeps_incidents_over_a_restart_and_lists_the_latest_first() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("below");
    let settings = settings(&format!("dir = {folder:?}"));
    let (archive, keeper) = Archive::start(&settings).expect("started");
    archive.take(work("1-1", [head(), told("1-1"), end()]));
    archive.take(work("1-2", [head(), told("1-2")]));
    keeper.stop();
    fs::write(folder.join("README"), "mine").expect("written");
    fs::write(folder.join("3-1.incident"), "something else").expect("written");

    let (archive, keeper) = Archive::start(&settings).expect("started");
    until(&archive, |archive| archive.list().len() == 3);
    let list = archive.list();
    let shown: Vec<_> = list
        .iter()
        .map(|one| (&*one.id, one.complete, one.fault.is_some()))
        .collect();
    assert_eq!(
        shown,
        [("3-1", false, true), ("1-2", false, false), ("1-1", true, false)]
    );
    assert_eq!(archive.status().kept, 3);
    assert!(archive.read("1-1").expect("there").expect("readable").complete);
    let fault = archive.read("3-1").expect("there").expect_err("unreadable");
    assert!(fault.ends_with("this is no incident of stormglass"), "{fault}");
    assert!(archive.read("../1-1").is_none(), "only what is listed is read");
    keeper.stop();
}

#[test]
fn what_is_old_or_too_much_goes_and_other_files_stay() {
    let dir = tempfile::tempdir().expect("a folder");
    let settings = settings(&format!("dir = {:?}\nkeep_megabytes = 1", dir.path()));
    let put = |id: &str, bytes: usize, days: u64| {
        let path = dir.path().join(format!("{id}.incident"));
        fs::write(&path, vec![b'x'; bytes]).expect("written");
        let file = fs::File::options().write(true).open(&path).expect("opened");
        let then = SystemTime::now() - Duration::from_secs(days * 86_400);
        file.set_modified(then).expect("set");
    };
    put("1-1", 10, 31);
    put("1-2", 600_000, 2);
    put("1-3", 600_000, 1);
    fs::write(dir.path().join("1-4"), "mine").expect("written");
    let (archive, keeper) = Archive::start(&settings).expect("started");
    keeper.stop();
    let ids: Vec<_> = archive.list().into_iter().map(|one| one.id).collect();
    assert_eq!(ids, ["1-3"]);
    assert!(dir.path().join("1-4").exists());
    assert!(!dir.path().join("1-1.incident").exists());
}

#[test]
fn a_folder_that_cannot_be_written_costs_the_record_and_is_counted() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("written");
    let settings = settings(&format!("dir = {file:?}"));
    let (archive, keeper) = Archive::start(&settings).expect("started");
    archive.take(work("1-1", [head(), told("1-1")]));
    archive.take(work("1-1", [end()]));
    keeper.stop();
    assert_eq!((archive.list().len(), archive.status().errors), (0, 2));
}
