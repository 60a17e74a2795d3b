//! Readings and keys in, frames out.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};
use stormglass::storms::Moment;

use super::data::{Fault, Reading};
use super::state::{Flow, Top};
use super::table::per_second;
use super::view;

const NOW: Moment = Moment(1_000_000);

fn server(name: &str, connections: u64, opened: u64) -> Value {
    json!({
        "server": name, "version": "9.1.2", "uptime_seconds": 4000, "clients_at_most": 19968,
        "connections": connections, "opened": opened, "closed": 5, "accept_queue": {"length": 3, "limit": 511},
        "clients": 7, "commands": 10 * opened, "bytes_in": 100 * opened, "bytes_out": 1000 * opened,
        "unattributed": [{"direction": "in", "reason": "mid_stream", "bytes": opened}],
    })
}

fn storm(server: &str) -> Value {
    json!({
        "id": "1-1", "server": server, "kind": "reconnect_churn", "kinds": ["reconnect_churn"],
        "severity": "critical", "onset": 995_000, "found": 995_300, "ended": null, "expected": false,
        "summary": "reconnect churn: 92 % of 4,100 opens in 3 s: workload cart-api, 312 instances, 13 connections each",
        "evidence": [{"name": "opens_per_second", "value": 1366.5, "unit": "connections"}],
        "culprits": [{"subject": "workload", "name": "cart-api", "share": 0.92, "instances": 200,
            "connections": 2000, "amount": 3772.0}],
    })
}

fn reading(seconds: u64, grown: u64, storms: &[Value]) -> Reading {
    let tenant = json!({
        "tenant": "checkout", "owner": "team-checkout", "commands": grown, "bytes_in": 0, "bytes_out": 2_000_000 * grown,
        "hit_ratio": 0.91, "errors": {"OOM": grown}, "duration_seconds": {"p50": 0.000_18, "p99": 0.001_7},
    });
    let workload = json!({
        "server": "shop/cache-0:6379", "workload": "cart-api", "instances": 200, "connections": 2000, "opened": grown,
        "connections_per_instance": {"median": 10.0, "max": 10}, "idle_share": 0.75, "socket_memory_bytes": 160_000,
        "busy_per_instance": {"p99": 2}, "pool_advice": {"text": "p could be 3"},
    });
    Reading::new(
        Duration::from_secs(seconds),
        [
            json!({"servers": [server("shop/cache-0:6379", 2000, grown), server("redis-server:7312", 12, 100)]}),
            json!({"tenants": [tenant]}),
            json!({"workloads": [workload]}),
            json!({"active": storms, "ended": []}),
        ],
    )
    .expect("understood")
}

/// Two readings, two seconds apart, in which 3000 connections were opened.
fn top() -> Top {
    let mut top = Top::new("127.0.0.1:9466".into());
    top.take(Ok(reading(1, 1000, &[])));
    top.take(Ok(reading(3, 4000, &[storm("shop/cache-0:6379")])));
    top
}

fn press(top: &mut Top, keys: &str) -> Flow {
    keys.chars().fold(Flow::GoOn, |_, key| {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\x1b' => KeyCode::Esc,
            '↓' => KeyCode::Down,
            key => KeyCode::Char(key),
        };
        top.press(KeyEvent::new(code, KeyModifiers::NONE))
    })
}

fn screen(top: &Top, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| view::draw(top, NOW, frame)).expect("drawn");
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(width)).map(|line| {
        let line: String = line.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.replace('\u{a0}', " ").trim_end().to_owned() + "\n"
    });
    lines.collect()
}

fn fault(seconds: u64, reason: &str) -> Fault {
    Fault {
        at: Duration::from_secs(seconds),
        reason: reason.into(),
    }
}

#[test]
fn servers_fit_a_terminal_of_80_by_24_with_rates_between_two_readings() {
    let expected = "
 127.0.0.1:9466             2012 conns  15000 cmds/s  152 kB/s in  1.5 MB/s out
 1 Servers 2  2 Tenants 1  3 Clients 1  4 Storms 1
  STORM   critical at shop/cache-0:6379 for 5.0 s
 reconnect churn: 92 % of 4,100 opens in 3 s: workload cart-api, 312 instances,…
  SERVER              ▼CONNS   OPENS/S   CMDS/S     IN/S    OUT/S   QUEUE
! shop/cache-0:6379     2000      1500    15000   152 kB   1.5 MB       3
  redis-server:7312       12         0        0      0 B      0 B       3
";
    let shown = screen(&top(), 80, 24);
    assert!(shown.starts_with(expected.trim_start_matches('\n')), "{shown}");
    let last = shown.lines().last().unwrap_or_default();
    assert!(last.starts_with(" q quit") && last.ends_with("1/2"), "{shown}");
}

#[test]
fn what_a_narrow_terminal_has_no_room_for_is_told_of_the_selected_row() {
    let mut top = top();
    let shown = screen(&top, 80, 24);
    for words in [
        "shop/cache-0:6379 ─",
        "limit 511",
        "clients 7",
        "max 19968",
        "version 9.1.2",
        "uptime 66 min",
        "storm reconnect churn",
        "92 %  cart-api, 200 instances, 2000 connections",
    ] {
        assert!(shown.contains(words), "{words} in {shown}");
    }
    press(&mut top, "↓");
    let shown = screen(&top, 80, 24);
    assert!(
        shown.contains("redis-server:7312 ─") && !shown.contains("92 %  cart-api"),
        "{shown}"
    );
}

#[test]
fn a_wide_terminal_has_every_column() {
    let mut top = top();
    let shown = screen(&top, 200, 50);
    for name in [
        "CLOSES/S", "LIMIT", "CLIENTS", "MAX", "VERSION", "UPTIME", "STORM",
    ] {
        assert!(shown.contains(name), "{name} in {shown}");
    }
    press(&mut top, "4");
    let shown = screen(&top, 200, 50);
    for words in [
        "goes on",
        "5.0 s",
        "5.0 s ago",
        "92 %  cart-api, 200 instances, 2000 connections",
        "opens per second 1366",
    ] {
        assert!(shown.contains(words), "{words} in {shown}");
    }
}

#[test]
fn every_view_fits_every_size() {
    for keys in ["1", "2", "3", "4", "?"] {
        let mut top = top();
        press(&mut top, keys);
        for (width, height) in [(1, 1), (20, 5), (40, 12), (80, 24), (200, 50), (400, 3)] {
            screen(&top, width, height);
        }
    }
    screen(&Top::new(String::new()), 80, 24);
    let narrow = screen(&top(), 40, 12);
    assert_eq!(
        narrow.lines().next(),
        Some("  2012 conns  15000 cmds/s  152 kB/s in"),
        "{narrow}"
    );
}

#[test]
fn tenants_and_clients_show_who_does_what() {
    let mut top = top();
    press(&mut top, "2");
    let shown = screen(&top, 100, 24);
    for cell in ["checkout", "team-checkout", "1500", "3.0 GB", "91.0 %", "1.700"] {
        assert!(shown.contains(cell), "{cell} in {shown}");
    }
    press(&mut top, "\t");
    let shown = screen(&top, 80, 24);
    for cell in ["cart-api", "2000", "200", "1500", "75 %", "p could be 3"] {
        assert!(shown.contains(cell), "{cell} in {shown}");
    }
}

#[test]
fn rows_are_sorted_by_the_column_that_is_chosen() {
    let first = |top: &Top| top.rows(NOW)[0].cells[0].text.clone();
    let mut top = top();
    assert_eq!(first(&top), "shop/cache-0:6379");
    press(&mut top, "r");
    assert_eq!(first(&top), "redis-server:7312");
    press(&mut top, "S");
    assert_eq!(first(&top), "redis-server:7312", "by name");
    press(&mut top, "ss");
    assert_eq!(first(&top), "shop/cache-0:6379", "by opens per second");
    assert!(screen(&top, 80, 24).contains("▼OPENS/S"));
}

#[test]
fn a_filter_is_typed_kept_and_ended() {
    let mut top = top();
    press(&mut top, "/REDISq");
    assert!(top.rows(NOW).is_empty(), "q is a letter here");
    assert!(screen(&top, 80, 24).contains("no row has \"REDISq\""));
    top.press(KeyEvent::new(KeyCode::Backspace, KeyModifiers::NONE));
    press(&mut top, "\n");
    assert_eq!(top.rows(NOW).len(), 1);
    let shown = screen(&top, 80, 24);
    assert!(
        shown.contains(" filter: REDIS ") && shown.contains(" 1/1"),
        "{shown}"
    );
    press(&mut top, "\x1b");
    assert_eq!(top.rows(NOW).len(), 2);
}

#[test]
fn frozen_numbers_stay_and_say_how_old_they_are() {
    let mut top = top();
    press(&mut top, "f");
    top.take(Ok(reading(10, 90_000, &[])));
    let shown = screen(&top, 120, 24);
    assert!(
        shown.contains("FROZEN 7 s") && shown.contains("STORM   critical"),
        "{shown}"
    );
    press(&mut top, "f");
    let shown = screen(&top, 120, 24);
    assert!(
        !shown.contains("FROZEN") && shown.contains(" no storm"),
        "{shown}"
    );
}

#[test]
fn a_counter_that_went_back_has_no_rate() {
    let mut top = top();
    top.take(Ok(reading(5, 7, &[])));
    let row = &top.rows(NOW)[0];
    assert_eq!(row.cells[2].text, "-");
}

#[test]
fn an_agent_that_does_not_answer_is_told_of_beside_its_last_numbers() {
    let mut top = top();
    top.take(Err(fault(10, "no agent answers at http://a:1")));
    let shown = screen(&top, 80, 24);
    for words in [
        "NO ANSWER   no new numbers for 7 s",
        " no answer ─",
        "\n no agent answers at http://a:1\n",
        "2000",
    ] {
        assert!(shown.contains(words), "{words} in {shown}");
    }
    // It may have begun to count anew.
    top.take(Ok(reading(11, 9000, &[])));
    assert_eq!(top.rows(NOW)[0].cells[2].text, "-");
    top.take(Ok(reading(12, 9010, &[])));
    assert_eq!(top.rows(NOW)[0].cells[2].text, "10");
    assert!(screen(&top, 80, 24).contains(" no storm"));
}

#[test]
fn the_selection_stays_with_its_row_when_others_overtake_it() {
    let mut top = top();
    press(&mut top, "↓r");
    let rows = top.rows(NOW);
    assert_eq!(top.selected(&rows), Some(0), "redis-server has the least");
    // At the top it is whatever comes first.
    press(&mut top, "gr");
    let rows = top.rows(NOW);
    assert_eq!(top.selected(&rows), Some(0));
}

#[test]
fn a_long_table_is_shown_page_by_page() {
    let servers: Vec<_> = (0..30)
        .map(|number| server(&format!("valkey:{number}"), 100 - number, 1))
        .collect();
    let pages = [
        json!({ "servers": servers }),
        json!({"tenants": []}),
        json!({"workloads": []}),
        json!({"active": [], "ended": []}),
    ];
    let mut top = Top::new("here".into());
    top.take(Ok(Reading::new(Duration::ZERO, pages).expect("understood")));
    let shown = screen(&top, 80, 24);
    assert!(
        shown.contains("valkey:9 ") && !shown.contains("valkey:10 ") && shown.contains(" 1/30"),
        "{shown}"
    );
    press(&mut top, "↓↓↓↓↓↓↓↓↓↓");
    let shown = screen(&top, 80, 24);
    assert!(
        shown.contains("valkey:10 ") && !shown.contains("valkey:9 ") && shown.contains(" 11/30"),
        "{shown}"
    );
    press(&mut top, "G");
    assert!(screen(&top, 80, 24).contains(" 30/30"));
}

#[test]
fn a_name_that_is_too_long_keeps_its_beginning_and_its_end() {
    let name = "payments-production/valkey-checkout-europe-west-0:6379";
    let mut top = Top::new("here".into());
    top.take(Ok(reading(1, 1, &[storm(name)])));
    press(&mut top, "4");
    let shown = screen(&top, 80, 24);
    assert!(shown.contains("payments-product"), "{shown}");
    let row = shown
        .lines()
        .find(|line| line.contains("goes on"))
        .unwrap_or_default();
    assert!(row.contains('…') && row.contains(":6379"), "{shown}");
}

#[test]
fn storms_that_go_on_come_first_and_those_that_were_announced_last() {
    let mut announced = storm("a:1");
    announced["expected"] = true.into();
    let mut warning = storm("b:1");
    warning["severity"] = "warning".into();
    let mut top = Top::new("here".into());
    top.take(Ok(reading(1, 1, &[announced, warning])));
    let shown = screen(&top, 80, 24);
    assert!(
        shown.contains("STORM   warning at b:1 for 5.0 s, and 1 more"),
        "{shown}"
    );
    press(&mut top, "4");
    let shown = screen(&top, 80, 24);
    assert!(shown.contains("expected  critical"), "{shown}");
}

#[test]
fn no_name_of_a_client_reaches_the_terminal_as_a_command() {
    let mut top = Top::new("here".into());
    let mut hostile = storm("a\x1b[2Jb\x07:1");
    hostile["summary"] = "bell \x07 escape \x1b]0;title\x07 \u{202e} end".into();
    top.take(Ok(reading(1, 1, &[hostile])));
    press(&mut top, "4");
    let shown = screen(&top, 120, 30);
    assert!(
        !shown.contains(|character: char| character.is_control() && character != '\n'),
        "{shown:?}"
    );
}

#[test]
fn help_is_shown_until_the_next_key_and_keys_move_the_selection() {
    let mut top = top();
    press(&mut top, "?");
    assert!(screen(&top, 80, 24).contains("sort by the next column"));
    press(&mut top, "q");
    assert!(!screen(&top, 80, 24).contains("sort by the next column"));
    let rows = top.rows(NOW);
    press(&mut top, "↓↓↓");
    assert_eq!(top.selected(&rows), Some(1));
    press(&mut top, "k");
    assert_eq!(top.selected(&rows), Some(0));
    assert_eq!(press(&mut top, "q"), Flow::Quit);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(top.press(interrupt), Flow::Quit);
}

#[test]
fn numbers_are_short() {
    for (value, text) in [
        (0.0, "0"),
        (0.25, "0.2"),
        (9999.0, "9999"),
        (250_000.0, "250k"),
        (20e6, "20M"),
    ] {
        assert_eq!(per_second(value), text);
    }
}
