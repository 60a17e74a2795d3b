//! Random conversations against the model, case by case. `STORMGLASS_CASES` says how many, `STORMGLASS_SEED` which ones and
//! `STORMGLASS_CASE` with which number they begin: a failure names all three.

use std::{collections::BTreeSet, env, fmt, time::Instant};

use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};

use crate::{
    model, noise,
    random::{Script, checks::check, conversation},
};

/// Cases of an ordinary run.
const CASES: u64 = 20_000;

#[test]
fn random_conversations_have_the_books_of_the_model() {
    let (cases, seed, first) = (number("CASES", CASES), number("SEED", 0), number("CASE", 0));
    let started = Instant::now();
    for case in first..first + cases {
        if let Err(failure) = run(seed, case) {
            panic!("STORMGLASS_SEED={seed} STORMGLASS_CASE={case} STORMGLASS_CASES=1: {failure}");
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{cases} random conversations from seed {seed}, case {first} on: no difference, {seconds:.1} s");
}

/// What the generator no longer makes is not tested any more.
#[test]
fn random_conversations_have_everything_that_the_protocol_has() {
    let mut names = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    let mut forms = [false; 4];
    for case in 0..3_000 {
        let mut runner = runner(7, case);
        let tree = script()
            .new_tree(&mut runner)
            .expect("a script can always be made");
        let conversation = conversation(&tree.current());
        let requests = model::frames::requests(&conversation.requests.bytes);
        for (words, _) in &requests.whole {
            forms[0] |= words.is_empty();
            names.extend(words.first().map(|name| name.to_ascii_lowercase()));
        }
        let replies = &conversation.replies.bytes;
        kinds.extend(
            replies
                .windows(3)
                .filter(|bytes| bytes.starts_with(b"\r\n"))
                .map(|bytes| bytes[2]),
        );
        forms[1] |= conversation
            .requests
            .bytes
            .first()
            .is_some_and(u8::is_ascii_alphabetic);
        forms[2] |= requests.rest.is_some_and(|rest| rest.refused != 0);
        forms[3] |= replies.windows(5).any(|bytes| bytes == b"\n*-1\r");
    }
    let known = model::places::COMMANDS.iter().map(|(name, _)| *name);
    let missing: Vec<_> = known
        .filter(|name| *name != "sync" && !names.contains(name.as_bytes()))
        .collect();
    assert!(missing.is_empty(), "commands: {missing:?}");
    assert!(
        b"+-:$*_#,(!=~%>|".iter().all(|kind| kinds.contains(kind)),
        "{kinds:?}"
    );
    assert_eq!(forms, [true; 4], "nothing, inline, broken, null array");
}

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = env::var(format!("STORMGLASS_{name}")) else {
        return default;
    };
    text.parse()
        .expect("STORMGLASS_CASES, STORMGLASS_SEED and STORMGLASS_CASE are numbers")
}

/// One case, shrunk if it fails.
fn run(seed: u64, case: u64) -> Result<(), String> {
    let mut runner = runner(seed, case);
    let tree = script()
        .new_tree(&mut runner)
        .expect("a script can always be made");
    let result = runner.run_one(tree, |script| {
        check(&script).map_err(|difference| TestCaseError::fail(difference.to_string()))
    });
    match result {
        Err(TestError::Fail(reason, script)) => Err(format!("{reason}\n{script:?}")),
        _ => Ok(()),
    }
}

fn runner(seed: u64, case: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&case.to_le_bytes());
    let config = Config {
        cases: 1,
        max_shrink_iters: 50_000,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn script() -> impl Strategy<Value = Script> {
    let bytes = |most| vec(any::<u8>(), 0..most);
    (vec(any::<u8>(), 4), vec(bytes(20), 0..30), vec(any::<u8>(), 24)).prop_map(
        |(setting, steps, delivery)| Script {
            setting,
            steps,
            delivery,
        },
    )
}

proptest! {
    #![proptest_config(Config { cases: 2_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn any_bytes_at_all_are_in_the_books(setting in any::<u8>(), events in vec((any::<u8>(), nearly_resp()), 1..20)) {
        let mut input = vec![setting];
        for (kind, bytes) in events {
            input.push(kind);
            input.push(bytes.len() as u8);
            input.extend(bytes);
        }
        noise::check(&input);
    }
}

/// Fewer than 256 bytes that are nearly RESP.
fn nearly_resp() -> impl Strategy<Value = Vec<u8>> {
    let word = select(vec![
        &b"*1\r\n"[..],
        b"*2\r\n",
        b"$3\r\n",
        b"$4\r\n",
        b"GET\r\n",
        b"PING\r\n",
        b"+OK\r\n",
        b">3\r\n",
        b":0\r\n",
        b"*-1\r\n",
        b"\r\n",
        b"\"",
        b"'",
        b"\\",
        b"SUBSCRIBE a\r\n",
        b"$9\r\nSUBSCRIBE\r\n",
        b"UNSUBSCRIBE\r\n",
        b"RESET\r\n",
        b"MONITOR\r\n",
        b"+1",
        b"PSYNC\n",
        b"|1\r\n",
        b"%1\r\n",
        b"CLIENT REPLY OFF\r\n",
        b"$99999999999999\r\n",
        b"*2147483648\r\n",
        b"$-2\r\n",
        b"\x16\x03",
        b"EVAL x 0 ",
        b"REPLCONF\r\n",
    ]);
    vec(
        prop_oneof![6 => word.prop_map(Vec::from), 1 => vec(any::<u8>(), 0..8)],
        1..12,
    )
    .prop_map(|words| words.concat())
}

/// The bytes that make it.
impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            setting,
            steps,
            delivery,
        } = self;
        write!(f, "setting {setting:?}, steps {steps:?}, delivery {delivery:?}")
    }
}
