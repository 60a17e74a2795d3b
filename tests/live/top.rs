//! `stormglass top` in a terminal: under a real storm, beside an agent and without one.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stormglass_load::crowd::Crowd;
use stormglass_tests::agent::{Agent, ConfigFile};
use stormglass_tests::bpf::Loaded;
use stormglass_tests::server::Plan;
use stormglass_tests::terminal::Terminal;
use stormglass_tests::threads::threads;
use stormglass_tests::{lab, poll, ports};

use crate::alerts::Crowded;

const CONFIG: &str = "[clients]\nsurvey_seconds = 1\n\n\
     [[workload]]\nname = \"batch\"\naddresses = [\"127.72.0.0/16\"]\n";

/// How long it may take to notice that its terminal has gone.
const GONE_WITHIN: Duration = Duration::from_secs(2);

const WITHIN: Duration = Duration::from_secs(10);

/// `before`: what the shell is to do with the command.
fn start(terminal: &Terminal, before: &str, config: &ConfigFile) -> Result<()> {
    let (agent, config) = (lab::agent()?, config.path());
    let command = format!("{before} {} top --config {}", agent.display(), config.display());
    terminal.types(&format!("clear; {command}"))?;
    terminal.press("Enter")
}

/// The shell has its prompt, and a terminal that shows what is typed.
fn assert_restored(terminal: &Terminal) -> Result<()> {
    poll::until_true("the terminal is given back", WITHIN, || Ok(!terminal.is_taken()?))?;
    terminal.types("clear; stty -a | tr ';' '\\n'; echo done")?;
    terminal.press("Enter")?;
    let screen = terminal.shows("done\n$")?;
    let has = |setting: &str| screen.split_whitespace().any(|word| word == setting);
    ensure!(has("icanon") && has("echo") && has("isig"), "{screen}");
    Ok(())
}

/// The number below the end of a column's name, in the row of a subject.
fn number(screen: &str, subject: &str, column: &str) -> Option<u64> {
    let line = |words: &str| {
        screen
            .lines()
            .find(|line| line.get(2..).is_some_and(|line| line.starts_with(words)))
    };
    let (names, row) = (line("SERVER")?, line(subject)?);
    let end = names
        .match_indices(column)
        .map(|(start, _)| start + column.len())
        .find(|end| {
            // Not the beginning of another name.
            names.len() == *end || names[*end..].starts_with(' ')
        })?;
    // Bytes of the mark of the sorted column are more than its width.
    let end = names[..end].chars().count();
    let start: String = row.chars().take(end).collect();
    start.rsplit(' ').next()?.parse().ok()
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn top_shows_a_storm_at_80_by_24_and_at_200_by_50_and_obeys_its_keys() -> Result<()> {
    let server = Crowded::server()?;
    let label = server.label();
    let agent = Agent::start_with(CONFIG)?;
    agent.sees(&label)?;
    let terminal = Terminal::start(80, 24)?;
    start(&terminal, "", agent.config())?;
    let calm = terminal.shows(&label)?;
    ensure!(calm.contains("\n no storm\n"), "{calm}");
    let stopped = Crowded::begin(server)?;
    let screen = terminal.shows_such("the storm, and the queue that is full", |screen| {
        let storm = screen.contains(" STORM ") && screen.contains("\n accept queue saturation: ");
        storm && screen.contains(&format!("\n! {label} ")) && number(screen, &label, "QUEUE") == Some(60)
    })?;
    println!("{screen}");
    ensure!(number(&screen, &label, "CONNS") == Some(60), "{screen}");
    ensure!(
        screen.lines().nth(23).is_some_and(|line| line.ends_with("1/1")),
        "{screen}"
    );
    terminal.types("4")?;
    let screen = terminal.shows("! goes on")?;
    println!("{screen}");
    ensure!(
        screen.replace('\u{a0}', " ").contains(" accept queue most 60, "),
        "{screen}"
    );
    terminal.types("3")?;
    terminal.shows_such("the workload", |screen| screen.contains("\n  batch "))?;

    terminal.resize(200, 50)?;
    let screen = terminal.shows("MEMORY")?;
    println!("{screen}");
    terminal.types("1")?;
    let screen = terminal.shows_such("every column", |screen| {
        number(screen, &label, "LIMIT") == Some(64) && screen.contains("accept queue saturation\n")
    })?;
    println!("{screen}");
    ensure!(screen.lines().count() == 50, "{screen}");
    for (keys, shown) in [
        ("s", "▼OPENS/S"),
        ("r", "▲OPENS/S"),
        ("/nobody", "no row has \"nobody\""),
        ("\x1b", &format!("! {label}")),
        ("f", "FROZEN"),
        ("?", "sort by the next column"),
    ] {
        terminal.types(keys)?;
        terminal.shows(shown)?;
    }
    terminal.types("x")?;
    terminal.shows_such("no help", |screen| !screen.contains("sort by the next column"))?;
    terminal.types("f")?;
    terminal.shows_such("numbers that go on", |screen| !screen.contains("FROZEN"))?;
    terminal.types("q")?;
    assert_restored(&terminal)?;
    stopped.end()?;
    Ok(())
}

/// Over an agent that dies and comes back; then its terminal goes, without a signal: it is that of another session.
#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn top_survives_its_agent_and_ends_with_its_terminal() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start()?;
    agent.sees(&server.label())?;
    let terminal = Terminal::start(80, 24)?;
    start(&terminal, "setsid --wait", agent.config())?;
    terminal.shows("\n no storm\n")?;
    let top = poll::until("top below setsid", WITHIN, || {
        Ok(children(terminal.child()?)?.first().copied())
    })?;
    for (name, thread) in threads(top)? {
        ensure!((thread.permitted, thread.no_new_privileges) == (0, 1), "{name}");
    }
    let agent = agent.start_again(Duration::ZERO)?;
    let screen = terminal.shows_such("numbers of the next agent", |screen| {
        screen.contains("\n no storm\n") && !screen.contains(" - cmds/s")
    })?;
    println!("{screen}");
    agent.kill()?;
    let screen = terminal.shows(" NO ANSWER ")?;
    println!("{screen}");
    ensure!(screen.contains(&server.label()), "{screen}");

    let before = processor_time(top)?;
    drop(terminal);
    let gone = Instant::now();
    let mut after = before;
    poll::until_true("top has ended with its terminal", GONE_WITHIN, || {
        let now = processor_time(top);
        after = *now.as_ref().unwrap_or(&after);
        Ok(now.is_err())
    })?;
    println!("ended after {:?} and {:?}", gone.elapsed(), after - before);
    ensure!(
        after - before <= Duration::from_millis(100),
        "{:?}",
        after - before
    );
    Ok(())
}

/// Without an agent the programs are attached for as long as top runs; beside one, that is elsewhere, they are not.
#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn top_reads_the_kernel_where_no_agent_runs_and_leaves_nothing() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let label = server.label();
    let mut crowd = Crowd::new(server.port(), 73, 9);
    crowd.arrive(1)?;
    let config = ConfigFile::new(&format!(
        "[http]\nlisten = \"127.0.0.1:{}\"\n",
        ports::free_port()?
    ))?;
    let before = Loaded::now()?;
    for end in ["SIGTERM", "C-c", "hang-up"] {
        let terminal = Terminal::start(80, 24)?;
        start(&terminal, "", &config)?;
        terminal.shows_such("nine connections", |screen| {
            screen.contains("this host, no agent") && number(screen, &label, "CONNS") == Some(9)
        })?;
        ensure!(
            !Loaded::now()?.beyond(&before).attached.is_empty(),
            "nothing is attached"
        );
        let top = terminal.child()?;
        for (name, thread) in threads(top)? {
            let is_watching = ["watch", "survey", "facts", "netns"].contains(&name.as_str());
            ensure!(is_watching || thread.permitted == 0, "{name} {thread:?}");
        }
        match end {
            "SIGTERM" => {
                kill(top, Signal::SIGTERM).context("cannot end top")?;
                assert_restored(&terminal)?;
            }
            "hang-up" => drop(terminal),
            key => {
                terminal.press(key)?;
                assert_restored(&terminal)?;
            }
        }
        poll::until_true("top has ended", WITHIN, || Ok(processor_time(top).is_err()))?;
        poll::until_true("nothing is left in the kernel", WITHIN, || {
            Ok(Loaded::now()?.beyond(&before).is_empty())
        })?;
    }

    let terminal = Terminal::start(80, 24)?;
    start(&terminal, "setpriv --bounding-set=-all", &config)?;
    terminal.shows_flowing("that cannot be done here; be root")?;
    let agent = Agent::start()?;
    start(&terminal, "", &config)?;
    terminal.shows_flowing("an agent watches this host already")?;
    drop((agent, crowd));
    Ok(())
}

fn children(of: Pid) -> Result<Vec<Pid>> {
    let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children"))?;
    let numbers = children
        .split_whitespace()
        .map(|child| Ok(Pid::from_raw(child.parse()?)));
    numbers.collect()
}

/// What a process has used. One that has ended, or is nobody's child any more and waits for that to be noticed, has none.
fn processor_time(process: Pid) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("no fields")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    ensure!(fields[0] != "Z" && fields[0] != "X", "it has ended");
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    // USER_HZ is 100 wherever Linux has told programs of it.
    Ok(Duration::from_millis(ticks * 10))
}
