//! What receivers are told over time: by the policy alone, and by the threads over real HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Instant;

use serde_json::Value;

use super::alertmanager::{Pace, Post, Sent, due};
use super::book::{Book, Entry, STORMS};
use super::testing::storm;
use super::*;

const MANAGER: &str = "am:9093";
const BEGIN: Moment = Moment(1_795_412_506_400);
const PACE: Pace = Pace {
    resend: 60_000,
    min_firing: 60_000,
};

/// An Alertmanager that takes everything while it is up, and the agent's side of it.
struct Stand {
    book: Book,
    identity: Identity,
    sent: Option<Sent>,
    is_up: bool,
    /// Milliseconds after the beginning, and what was posted.
    posts: Vec<(u64, Value)>,
}

impl Stand {
    fn new() -> Self {
        let listen = "127.0.0.1:9466".parse().expect("an address");
        Self {
            book: Book::default(),
            identity: Identity::new(&config::Alerts::default(), "cache-7", listen),
            sent: None,
            is_up: true,
            posts: Vec::new(),
        }
    }

    /// Takes a storm as it is so many milliseconds after the beginning.
    fn tell(&mut self, at: u64, storm: &Storm) {
        let entry = self.book.notice(storm, Moment(BEGIN.0 + at), &[], true);
        self.book.apply(entry.expect("news"));
    }

    /// Lets time pass, looking every 100 ms.
    fn pass(&mut self, from: u64, to: u64) {
        for at in (from..to).step_by(100) {
            let now = Moment(BEGIN.0 + at);
            let asked = due(&self.book, MANAGER, &self.identity, PACE, self.sent.as_ref(), now);
            let Ok(Post { alerts, firing, sent }) = asked else {
                continue;
            };
            if !self.is_up {
                continue;
            }
            self.posts.push((at, serde_json::to_value(alerts).expect("JSON")));
            self.book.apply(Entry::Taken {
                manager: MANAGER.into(),
                at: now,
                firing,
            });
            self.sent = Some(sent);
        }
    }

    /// When something was posted, with severity and whether it fires, of each alert.
    fn course(&self) -> Vec<(u64, Vec<(&str, bool)>)> {
        let course = self.posts.iter().map(|(at, alerts)| {
            let now = crate::time::utc_milliseconds(BEGIN.0 + at);
            let alerts = alerts.as_array().expect("alerts").iter().map(|alert| {
                let ends = alert["endsAt"].as_str().expect("an end");
                (
                    alert["labels"]["severity"].as_str().expect("a label"),
                    ends > &*now,
                )
            });
            (*at, alerts.collect())
        });
        course.collect()
    }

    fn finished(&self, at: u64) -> Vec<(String, Vec<String>)> {
        self.book
            .finished(&[MANAGER.into()], Moment(BEGIN.0 + at), |_| true)
    }
}

fn ended(storm: &Storm, at: u64) -> Storm {
    Storm {
        ended: Some(Moment(BEGIN.0 + at)),
        ..storm.clone()
    }
}

#[test]
fn a_storm_fires_is_sent_again_and_is_resolved_once() {
    let mut stand = Stand::new();
    let storm = storm("a");
    stand.tell(0, &storm);
    stand.pass(0, 130_000);
    stand.tell(130_000, &ended(&storm, 120_000));
    stand.pass(130_000, 400_000);
    let fires = |at| (at, vec![("warning", true)]);
    let over = (130_000, vec![("warning", false)]);
    assert_eq!(stand.course(), [fires(0), fires(60_000), fires(120_000), over]);
    let last = &stand.posts[3].1[0];
    assert_eq!(last["endsAt"], crate::time::utc_milliseconds(BEGIN.0 + 120_000));
    assert_eq!(stand.finished(130_100), [("a".to_owned(), vec![])]);
}

#[test]
fn a_short_storm_stays_until_alertmanager_has_told_of_it() {
    let mut stand = Stand::new();
    let storm = storm("a");
    stand.tell(0, &storm);
    stand.pass(0, 5_000);
    stand.tell(5_000, &ended(&storm, 4_000));
    stand.pass(5_000, 200_000);
    let course: Vec<_> = stand
        .course()
        .into_iter()
        .map(|(at, alerts)| (at, alerts[0].1))
        .collect();
    assert_eq!(course.first(), Some(&(0, true)));
    assert_eq!(course.last(), Some(&(60_000, false)), "{course:?}");
    assert_eq!(course.iter().filter(|(_, fires)| !fires).count(), 1);
}

#[test]
fn an_alertmanager_that_was_away_hears_of_a_storm_that_has_come_and_gone() {
    let mut stand = Stand::new();
    stand.is_up = false;
    let storm = storm("a");
    stand.tell(0, &storm);
    stand.pass(0, 3_000);
    stand.tell(3_000, &ended(&storm, 2_000));
    stand.pass(3_000, 90_000);
    assert_eq!(stand.finished(90_000), [], "not told yet");
    stand.is_up = true;
    stand.pass(90_000, 300_000);
    let course = stand.course();
    assert_eq!(course[0], (90_000, vec![("warning", true)]));
    assert_eq!(course.last(), Some(&(150_000, vec![("warning", false)])));
    assert_eq!(stand.finished(150_100), [("a".to_owned(), vec![])]);
}

#[test]
fn an_alert_that_gets_worse_takes_the_place_of_the_old_one_in_one_request() {
    let mut stand = Stand::new();
    let mut storm = storm("a");
    stand.tell(0, &storm);
    stand.pass(0, 1_000);
    storm.severity = Severity::Critical;
    stand.tell(1_000, &storm);
    stand.pass(1_000, 2_000);
    let worse = vec![("critical", true), ("warning", false)];
    assert_eq!(stand.course(), [(0, vec![("warning", true)]), (1_000, worse)]);
}

#[test]
fn an_announced_storm_is_not_told() {
    let mut stand = Stand::new();
    let expected = Storm {
        expected: true,
        ..storm("a")
    };
    stand.tell(0, &expected);
    stand.pass(0, 100_000);
    assert_eq!(stand.course(), []);
}

#[test]
fn what_an_alertmanager_never_takes_is_bounded_and_given_up_with_the_oldest_first() {
    let mut stand = Stand::new();
    stand.is_up = false;
    for number in 0..STORMS as u64 + 3 {
        let storm = storm(&format!("s{number:05}"));
        stand.tell(number, &storm);
        stand.tell(number, &ended(&storm, number));
    }
    let lost = stand.finished(10_000);
    let names: Vec<&str> = lost.iter().map(|(storm, _)| storm.as_str()).collect();
    assert_eq!(names, ["s00000", "s00001", "s00002"]);
    assert!(lost.iter().all(|(_, lacking)| lacking == &[MANAGER]));
}

#[test]
fn a_storm_from_before_a_restart_ends_unseen_where_nothing_else_is_found() {
    let mut book = Book::default();
    let webhooks = ["hook".to_owned()];
    let entry = book.notice(&storm("a"), BEGIN, &webhooks, true).expect("news");
    book.apply(entry);
    let orphans = book.going_on();
    let now = Moment(BEGIN.0 + 90_000);
    let elsewhere = book.unseen_ends(&orphans, Some("other:1"), now, now, &webhooks, true);
    assert_eq!(elsewhere, [], "another server says nothing about it");
    let ends = book.unseen_ends(&orphans, None, now, now, &webhooks, true);
    let [Entry::Notice { notice, webhooks: to }] = &ends[..] else {
        panic!("{ends:?}");
    };
    assert_eq!(
        (notice.event, notice.sequence, to.len()),
        (Happening::Ended, 2, 1)
    );
    assert!(notice.unseen.is_some() && notice.storm.ended == Some(now));
}

/// A webhook over real HTTP: answers each request with the next of its statuses, and then with 200.
struct Hook {
    port: u16,
    requests: mpsc::Receiver<(String, Value)>,
}

impl Hook {
    fn open(statuses: &'static [u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let (tell, requests) = mpsc::channel();
        // Ends with the test's process; what it serves is over before.
        thread::spawn(move || {
            let mut statuses = statuses.iter();
            for stream in listener.incoming() {
                let mut stream = stream.expect("accepted");
                while let Some((head, body)) = request(&mut stream) {
                    let status = statuses.next().copied().unwrap_or(200);
                    let answer = format!("HTTP/1.1 {status} So\r\ncontent-length: 0\r\n\r\n");
                    if status == 200 && tell.send((head, body)).is_err() {
                        return;
                    }
                    stream.write_all(answer.as_bytes()).expect("answered");
                }
            }
        });
        Self { port, requests }
    }

    fn settings(&self, dir: &std::path::Path) -> config::Alerts {
        let text = format!(
            "[alerts]\ndir = {dir:?}\n[[alerts.webhook]]\nname = \"hook\"\nurl = \"http://127.0.0.1:{}/storms\"\n",
            self.port
        );
        let settings = config::Settings::parse(std::path::Path::new("test.toml"), &text);
        settings.expect("a good configuration").alerts
    }

    fn next(&self) -> (String, Value) {
        self.requests
            .recv_timeout(Duration::from_secs(20))
            .expect("the webhook is told")
    }

    fn told(&self) -> (String, u64, String) {
        let (_, body) = self.next();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        (
            text(&body["storm"]["id"]),
            body["sequence"].as_u64().expect("a number"),
            text(&body["event"]),
        )
    }
}

fn request(stream: &mut TcpStream) -> Option<(String, Value)> {
    let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length: ")?
            .parse()
            .ok()
    });
    let mut body = vec![0; length.expect("a length")];
    reader.read_exact(&mut body).ok()?;
    Some((head, serde_json::from_slice(&body).expect("JSON")))
}

fn start(settings: &config::Alerts) -> (Alerts, Teller) {
    Alerts::start(settings, "127.0.0.1:9466".parse().expect("an address")).expect("started")
}

#[test]
fn a_webhook_has_everything_once_and_in_order_over_failures() {
    let dir = tempfile::tempdir().expect("a folder");
    let hook = Hook::open(&[503, 200, 500, 429]);
    let (alerts, teller) = start(&hook.settings(dir.path()));
    let begun = storm("a");
    let now = alerts.now();
    alerts.tell(&begun, now);
    alerts.tell(&ended(&begun, 1_000), now);
    alerts.tell(&storm("b"), now);
    assert_eq!(hook.told(), ("a".into(), 1, "started".into()));
    assert_eq!(hook.told(), ("a".into(), 2, "ended".into()));
    let (head, body) = hook.next();
    assert!(
        head.to_ascii_lowercase().contains("\r\nidempotency-key: b/1\r\n"),
        "{head}"
    );
    assert_eq!(body["storm"]["id"], "b");
    teller.stop();
    let status = alerts.status();
    let [receiver] = &status.receivers[..] else {
        panic!("{status:?}");
    };
    let failed: u64 = receiver.failed.iter().map(|(_, count)| count).sum();
    assert_eq!(
        (receiver.sent, failed, receiver.queued),
        (3, 3, 0),
        "{receiver:?}"
    );
}

#[test]
fn what_was_not_told_before_a_restart_is_told_after_it_and_nothing_twice() {
    let dir = tempfile::tempdir().expect("a folder");
    let hook = Hook::open(&[]);
    let settings = hook.settings(dir.path());
    let (alerts, teller) = start(&settings);
    alerts.tell(&storm("a"), alerts.now());
    assert_eq!(hook.told(), ("a".into(), 1, "started".into()));
    teller.stop();

    // Nobody listens there: what is told now waits.
    let nowhere = Hook {
        port: 1,
        ..Hook::open(&[])
    };
    let (alerts, teller) = start(&nowhere.settings(dir.path()));
    alerts.tell(&ended(&storm("a"), 1_000), alerts.now());
    let deadline = Instant::now() + Duration::from_secs(20);
    while alerts.status().receivers[0].queued == 0 {
        assert!(Instant::now() < deadline, "{:?}", alerts.status());
        thread::sleep(Duration::from_millis(10));
    }
    teller.stop();

    let (alerts, teller) = start(&settings);
    assert_eq!(hook.told(), ("a".into(), 2, "ended".into()));
    alerts.tell(&storm("b"), alerts.now());
    assert_eq!(hook.told(), ("b".into(), 1, "started".into()));
    teller.stop();
    assert!(hook.requests.try_recv().is_err(), "told twice");
}

#[test]
fn what_a_receiver_refuses_is_not_repeated_and_counted() {
    let dir = tempfile::tempdir().expect("a folder");
    let hook = Hook::open(&[422]);
    let (alerts, teller) = start(&hook.settings(dir.path()));
    alerts.tell(&storm("a"), alerts.now());
    alerts.tell(&storm("b"), alerts.now());
    assert_eq!(hook.told().0, "b");
    teller.stop();
    let dropped = &alerts.status().receivers[0].dropped;
    assert!(dropped.contains(&("refused", 1)), "{dropped:?}");
}
