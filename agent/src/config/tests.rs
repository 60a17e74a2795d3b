//! The configuration from outside: what is accepted, what is refused, and with which words.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::{self, Visitor};

use super::*;
use crate::storms::Kind;

const EXAMPLE: &str = include_str!("../../../deploy/stormglass.example.toml");

fn parse(text: &str) -> Result<Settings, ConfigError> {
    Settings::parse(Path::new("test.toml"), text)
}

/// The error as it is printed, without the file's name.
fn refusal(text: &str) -> String {
    let error = parse(text)
        .expect_err("this configuration must be refused")
        .to_string();
    error
        .strip_prefix("test.toml:")
        .expect("the error names the file")
        .to_owned()
}

fn warnings(text: &str) -> Vec<String> {
    parse(text).expect("accepted").warnings
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(parse("").expect("accepted"), Settings::default());
    assert_eq!(Settings::default().http.listen.to_string(), "127.0.0.1:9466");
}

#[test]
fn the_shipped_example_is_the_defaults_and_its_example_tenants() {
    let settings = parse(EXAMPLE).expect("the example is accepted");
    let tenants: Vec<_> = settings
        .tenants
        .iter()
        .map(|rule| (rule.name.as_str(), &*rule.owner))
        .collect();
    assert_eq!(
        tenants,
        [("checkout", "team-checkout"), ("sessions", "team-identity")]
    );
    assert_eq!(
        settings.tenants[0].prefixes[1],
        PrefixPattern::Exact("cart".into())
    );
    assert!(matches!(&settings.tenants[0].prefixes[2], PrefixPattern::Glob(glob) if glob.glob() == "pay-*"));
    assert_eq!(settings.tenants[0].labels["tier"], "1");
    let [workload] = &*settings.workloads else {
        panic!("{:?}", settings.workloads)
    };
    assert_eq!(
        (workload.name.as_str(), workload.addresses.len()),
        ("checkout-api", 3)
    );
    assert_eq!(
        Settings {
            tenants: Vec::new(),
            workloads: Vec::new(),
            ..settings
        },
        Settings::default()
    );
}

/// The example with what it only suggests: lines that begin with `#` and no space.
fn with_receivers() -> String {
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest,
        _ => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn what_the_shipped_example_suggests_is_accepted_but_for_two_kinds_of_credentials() {
    let text = with_receivers();
    let error = refusal(&text);
    assert!(error.contains("of two kinds"), "{error}");
    let one_kind: String = text
        .lines()
        .filter(|line| !line.starts_with("bearer_token_file"))
        .map(|line| format!("{line}\n"))
        .collect();
    let alerts = parse(&one_kind).expect("accepted").alerts;
    assert_eq!((alerts.alertmanagers.len(), alerts.webhooks.len()), (3, 1));
    assert_eq!(alerts.alertmanagers[0].receiver.name, "127.0.0.1:9093");
    assert_eq!(alerts.labels["cluster"], "eu-1");
    let written = Alerts {
        alertmanagers: Vec::new(),
        webhooks: Vec::new(),
        labels: BTreeMap::new(),
        node: None,
        external_url: None,
        runbook_url: None,
        ..alerts
    };
    assert_eq!(written, Alerts::default());
}

#[test]
fn receivers_are_checked_where_they_stand() {
    for (text, place, what) in [
        ("[alerts]\ndir = \"here\"", "2:7", "absolute"),
        ("[alerts]\nlabels = { kind = \"a\" }", "2:12", "`kind`"),
        ("[alerts.alertmanager]\nresend_seconds = 5", "1:1", "has no URL"),
        ("[alerts.alertmanager]\nurl = \"am:9093\"", "2:7", "http://"),
        (
            "[alerts.alertmanager]\nurl = \"http://a:1\"\nresend_seconds = 0",
            "3:18",
            "resend_seconds",
        ),
        (
            "[alerts.alertmanager]\nurl = \"http://a:1\"\nurls = [\"http://a:1\"]",
            "3:9",
            "second",
        ),
        ("[[alerts.webhook]]\nname = \"a\"", "1:1", "no URL"),
        (
            "[[alerts.webhook]]\nurl = \"http://me:secret@host/\"",
            "2:7",
            "credentials",
        ),
        (
            "[[alerts.webhook]]\nurl = \"http://a/1\"\n[[alerts.webhook]]\nurl = \"http://a/2\"",
            "4:7",
            "second",
        ),
        (
            "[[alerts.webhook]]\nurl = \"http://a/\"\nbasic_auth_user = \"me\"",
            "3:19",
            "incomplete",
        ),
        (
            "[[alerts.webhook]]\nurl = \"http://a/\"\nhmac_secret = \"x\"",
            "3:1",
            "hmac_secret",
        ),
    ] {
        let error = refusal(text);
        assert!(
            error.starts_with(&format!("{place}: ")) && error.contains(what),
            "{text}: {error}"
        );
        assert!(!error.contains("me:secret"), "{error}");
    }
}

#[test]
fn the_shipped_example_has_every_key_with_a_comment_above_it() {
    let sections = [
        ("http", fields::<raw::Http>()),
        ("command_line", fields::<raw::CommandLine>()),
        ("discovery", fields::<raw::Discovery>()),
        ("keys", fields::<raw::Keys>()),
        ("limits", fields::<raw::Limits>()),
        ("clients", fields::<raw::Clients>()),
        ("kubernetes", fields::<raw::Kubernetes>()),
        ("tenant", fields::<raw::Tenant>()),
        ("workload", fields::<raw::Workload>()),
        (
            "alerts",
            fields::<raw::Alerts>()
                .into_iter()
                .filter(|key| !["alertmanager", "webhook"].contains(key))
                .collect(),
        ),
        ("incidents", fields::<raw::Incidents>()),
        ("alerts.alertmanager", fields::<raw::Alertmanager>()),
        ("alerts.webhook", fields::<raw::Webhook>()),
        ("storms.reconnect_churn", fields::<storms::RawReconnectChurn>()),
        ("storms.cold_reconnect", fields::<storms::RawColdReconnect>()),
        (
            "storms.maxclients_rejection",
            fields::<storms::RawMaxclientsRejection>(),
        ),
        (
            "storms.accept_queue_saturation",
            fields::<storms::RawAcceptQueueSaturation>(),
        ),
        (
            "storms.connection_growth",
            fields::<storms::RawConnectionGrowth>(),
        ),
        (
            "storms.retry_amplification",
            fields::<storms::RawRetryAmplification>(),
        ),
        (
            "storms.bandwidth_saturation",
            fields::<storms::RawBandwidthSaturation>(),
        ),
        ("storms.oversized_values", fields::<storms::RawOversizedValues>()),
        ("storms.hot_prefix", fields::<storms::RawHotPrefix>()),
        ("storms.error_burst", fields::<storms::RawErrorBurst>()),
    ];
    // A table of tables: each kind is a section above.
    let kinds = fields::<storms::RawStorms>().into_iter();
    let kinds: Vec<_> = kinds.map(|kind| format!("storms.{kind}")).collect();
    assert!(
        kinds
            .iter()
            .all(|kind| sections.iter().any(|(name, _)| name == kind)),
        "{kinds:?}"
    );
    assert_eq!(kinds.len(), Kind::ALL.len());
    let known: Vec<_> = sections.iter().map(|(name, _)| *name).collect();
    let all = fields::<raw::File>();
    assert!(
        all.iter().all(|name| *name == "storms" || known.contains(name)),
        "a section is missing in this test: {all:?}"
    );

    let example = with_receivers();
    for (section, keys) in sections {
        let start = example
            .find(&format!("[{section}]"))
            .unwrap_or_else(|| panic!("no [{section}]"));
        let lines: Vec<_> = example[start..].lines().collect();
        for key in keys {
            let at = lines.iter().position(|line| {
                // Keys without a default are written as comments.
                let line = line.strip_prefix("# ").unwrap_or(line);
                line.starts_with(&format!("{key} = "))
            });
            let at = at.unwrap_or_else(|| panic!("[{section}] has no {key}"));
            assert!(
                lines[at - 1].starts_with("# "),
                "{section}.{key} is not documented"
            );
        }
    }
}

#[test]
fn thresholds_of_storms_are_taken_over_and_bounded() {
    let settings = parse("[storms.reconnect_churn]\nenabled = false\nshare_percent = 7").expect("accepted");
    let churn = settings.storms.reconnect_churn;
    assert_eq!((churn.enabled, churn.share_percent.get()), (false, 7));
    assert_eq!(churn.connections, Storms::default().reconnect_churn.connections);
    assert!(!settings.storms.is_enabled(Kind::ReconnectChurn));
    for kind in Kind::ALL {
        assert!(Storms::default().is_enabled(kind), "{kind}");
    }
    assert_eq!(
        refusal("[storms.cold_reconnect]\nshare_percent = 0"),
        "2:17: `storms.cold_reconnect.share_percent` cannot be 0: write a number from 1 to 100"
    );
}

#[test]
fn a_full_file_is_taken_over() {
    let settings = parse(
        r#"
        http = { listen = "[::1]:0" }
        discovery = { processes = [], ports = [7000, 7001, 7000] }
        keys = { delimiters = ":/", depth = 4, max_prefix_bytes = 8, hash_tags = false, hash_prefixes = true, hash_key_file = "/etc/key" }
        limits = { tenants = 1, prefixes = 2, clients = 3, workloads = 4, libraries = 5 }
        clients = { idle_after_seconds = 5, survey_seconds = 6 }
        "#,
    )
    .expect("accepted");
    assert_eq!(settings.http.listen.to_string(), "[::1]:0");
    assert_eq!(
        settings.discovery.ports.into_iter().collect::<Vec<_>>(),
        [7000, 7001]
    );
    assert!(settings.discovery.processes.is_empty());
    assert_eq!(settings.keys.delimiters.as_bytes(), b":/");
    assert_eq!(
        (settings.keys.depth.get(), settings.keys.max_prefix_bytes.get()),
        (4, 8)
    );
    assert!(!settings.keys.hash_tags);
    assert!(settings.keys.hash_prefixes);
    let key = settings.hash_key_file.expect("named");
    assert_eq!(key.path, Path::new("/etc/key"));
    let limits = settings.limits;
    assert_eq!(
        (limits.tenants.get(), limits.prefixes.get(), limits.clients.get()),
        (1, 2, 3)
    );
    assert_eq!((limits.workloads.get(), limits.libraries.get()), (4, 5));
    let clients = settings.clients;
    assert_eq!(
        (clients.idle_after_seconds.get(), clients.survey_seconds.get()),
        (5, 6)
    );
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_key() {
    assert_eq!(
        refusal("\n[keys]\n  detph = 2"),
        "3:3: unknown key `detph`: did you mean `depth`?"
    );
    assert_eq!(
        refusal("[limits]\nmemory = 1"),
        "2:1: unknown key `memory`: known here: tenants, prefixes, clients, workloads, libraries"
    );
    assert_eq!(
        refusal("[[tenants]]\nname = \"a\""),
        "1:3: unknown key `tenants`: did you mean `tenant`?"
    );
    assert_eq!(
        refusal("[[tenant]]\nnames = \"a\""),
        "2:1: unknown key `names`: did you mean `name`?"
    );
    assert_eq!(
        refusal("[http]\nlisten_on = 1"),
        "2:1: unknown key `listen_on`: known here: listen, web_config"
    );
}

#[test]
fn what_is_said_of_a_file_that_hashes_prefixes_has_none_of_them() {
    let long = format!("secret-{}*", "x".repeat(40));
    let tenant = |prefixes: &str| {
        format!("[keys]\nhash_prefixes = true\n[[tenant]]\nname = \"a\"\nprefixes = {prefixes}\n")
    };
    for (prefixes, expected) in [
        ("[\"secret[\"]", "5:13: (hidden) is not a glob"),
        (
            "\"secret\"",
            "5:12: invalid type: string (hidden), expected a sequence",
        ),
        (&*format!("[{long:?}]"), "5:13: (hidden) can never match"),
    ] {
        let refused = refusal(&tenant(prefixes));
        assert!(
            refused.starts_with(expected) && !refused.contains("secret"),
            "{refused}"
        );
        let plain = refusal(&tenant(prefixes).replace("true", "false"));
        assert!(plain.contains("secret"), "{plain}");
    }
    let text = tenant("[\"secret:x\", \"secret\", \"secret\"]");
    let warnings = parse(&text).expect("accepted").warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    for (warning, expected) in warnings.iter().zip([
        "prefix (hidden) can never match",
        "prefix (hidden) already belongs",
    ]) {
        assert!(
            warning.contains(expected) && !warning.contains("secret"),
            "{warning}"
        );
    }
    let warnings = parse(&text.replace("true", "false")).expect("accepted").warnings;
    assert!(
        warnings.iter().all(|warning| warning.contains("secret")),
        "{warnings:?}"
    );
}

#[test]
fn the_file_of_a_key_has_an_absolute_path() {
    assert_eq!(
        refusal("[keys]\nhash_key_file = \"prefix.key\""),
        "2:17: `keys.hash_key_file` is not an absolute path: begin it with a slash"
    );
}

#[test]
fn a_value_out_of_bounds_is_refused_with_the_bounds() {
    assert_eq!(
        refusal("[keys]\ndepth = 5"),
        "2:9: `keys.depth` cannot be 5: write a number from 1 to 4"
    );
    assert_eq!(
        refusal("[limits]\nprefixes = 4097"),
        "2:12: `limits.prefixes` cannot be 4097: write a number from 1 to 4096"
    );
    for text in [
        "[keys]\ndepth = 0",
        "[keys]\nmax_prefix_bytes = 33",
        "[keys]\nmax_prefix_bytes = -1",
        "[limits]\ntenants = 0",
        "[limits]\ntenants = 10001",
        "[limits]\nclients = 65537",
        "[limits]\nlibraries = 4097",
        "[limits]\nclients = 9223372036854775807",
        "[discovery]\nports = [0]",
        "[discovery]\nports = [65536]",
        "[keys]\ndelimiters = \"\"",
        "[keys]\ndelimiters = \":/|;,\"",
        "[keys]\ndelimiters = \"::\"",
        "[keys]\ndelimiters = \"é\"",
        "[http]\nlisten = \"localhost:9466\"",
        "[http]\nlisten = \"127.0.0.1\"",
        "[discovery]\nprocesses = []",
        "[discovery]\nprocesses = [\"/usr/bin/valkey-server\"]",
        "[discovery]\nprocesses = [\" \"]",
    ] {
        assert!(refusal(text).starts_with("2:"), "{text}: {}", refusal(text));
    }
}

#[test]
fn a_wrong_type_and_wrong_toml_are_refused_with_their_place() {
    assert!(refusal("[keys]\ndepth = \"1\"").starts_with("2:9: invalid type: string"));
    assert!(refusal("[keys]\ndepth 1").starts_with("2:7: "));
    assert!(refusal("keys = 1").starts_with("1:8: invalid type"));
    assert!(!refusal("[keys\n\n\ndepth = 1").contains('\n'), "one line");
}

#[test]
fn a_tenant_needs_a_name_of_its_own() {
    assert_eq!(
        refusal("\n[[tenant]]\nprefixes = [\"a\"]"),
        "2:1: this tenant has no name: add `name = \"...\"`"
    );
    let second = "[[tenant]]\nname = \"a\"\n[[tenant]]\nname = \"a\"";
    assert!(refusal(second).starts_with("4:8: a second tenant `a`: "));
    for name in ["", "  ", " a", "a\\n", "(unassigned)", "(other)", "(mine)"] {
        let text = format!("[[tenant]]\nname = \"{name}\"");
        assert!(
            refusal(&text).starts_with("2:8: the tenant's name"),
            "{name:?}: {}",
            refusal(&text)
        );
    }
    assert!(
        refusal(&format!("[[tenant]]\nname = \"{}\"", "x".repeat(129))).contains("longer than 128 bytes")
    );
}

#[test]
fn a_bad_glob_an_empty_prefix_and_a_bad_label_are_refused() {
    let tenant = "[[tenant]]\nname = \"a\"\n";
    assert!(
        refusal(&format!("{tenant}prefixes = [\"b\", \"[a\"]")).starts_with("3:18: `[a` is not a glob (")
    );
    assert!(refusal(&format!("{tenant}prefixes = [\"\"]")).starts_with("3:13: a prefix is empty"));
    assert!(refusal(&format!("{tenant}labels = {{ \"1a\" = \"x\" }}")).starts_with("3:12: `1a` cannot be"));
    assert!(
        refusal(&format!("{tenant}labels = {{ owner = \"x\" }}")).contains("neither `tenant` nor `owner`")
    );
    assert!(refusal(&format!("{tenant}owner = \"a\\nb\"")).starts_with("3:9: the owner"));
}

fn declared(text: &str) -> Vec<String> {
    let settings = parse(text).expect("accepted");
    let declared = settings.declared().into_iter();
    declared.map(|bytes| bytes.escape_ascii().to_string()).collect()
}

#[test]
fn a_prefix_that_ends_in_its_only_asterisk_is_declared() {
    let rules = r#"
        [[tenant]]
        name = "a"
        prefixes = ["cart-*", "cart-eu-*", "cart", "pay-*", '\xff\x5c*', "käse*", "a]b*", '\x28none)*']
        [[tenant]]
        name = "b"
        prefixes = ["cart-*"]
    "#;
    assert_eq!(
        declared(rules),
        [
            "(none)",
            "a]b",
            "cart-",
            "cart-eu-",
            "k\\xc3\\xa4se",
            "pay-",
            "\\xff\\\\"
        ],
        "each once, as bytes"
    );
}

#[test]
fn no_other_glob_declares_a_prefix() {
    for glob in [
        "*",
        "**",
        "a**",
        "*a",
        "a*b",
        "a*b*",
        "a?*",
        "[ab]*",
        "{a,b}*",
        "a:b*",
        "eu:*",
        "(none)*",
        // Rows are written otherwise: a line feed as \x0a, a backslash as \x5c, these bytes as the letter they are.
        "a\\n*",
        "a\\\\*",
        "\\\\xc3\\\\xa4*",
    ] {
        let text = format!("[keys]\ndepth = 2\n[[tenant]]\nname = \"a\"\nprefixes = [\"{glob}\"]");
        assert!(declared(&text).is_empty(), "{glob}");
    }
    let slash = "[keys]\ndelimiters = \"/-\"\n[[tenant]]\nname = \"a\"\nprefixes = [\"a-*\", \"a:*\"]";
    assert_eq!(declared(slash), ["a:"], "what the delimiters are decides");
}

#[test]
fn users_client_names_and_addresses_of_tenants_are_checked_where_they_stand() {
    let rule = |line: &str| format!("[[tenant]]\nname = \"a\"\n{line}");
    let settings = parse(&rule(
        "users = [\"a-svc\", \"b-*\"]\nclient_names = [\"*\"]\naddresses = [\"10.1.0.0/16\", \"::1\"]",
    ))
    .expect("accepted");
    let tenant = &settings.tenants[0];
    assert_eq!(
        tenant.users,
        [
            NamePattern::Whole(b"a-svc".to_vec()),
            NamePattern::Beginning(b"b-".to_vec())
        ]
    );
    assert_eq!(tenant.client_names, [NamePattern::Beginning(Vec::new())]);
    assert_eq!(tenant.addresses.len(), 2);
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
    let name = "write a name such as \"checkout-svc\", or its beginning such as \"checkout-*\"";
    for (line, words) in [
        (
            "users = [\"*-svc\"]",
            format!(
                "3:10: the user `*-svc` is a glob that the kernel cannot decide: of users and client names only the end \
                 can be a `*`: {name}"
            ),
        ),
        (
            "client_names = [\"\"]",
            format!("3:17: the client name `` is empty: {name}"),
        ),
        (
            "addresses = [\"10.1.4.7/24\"]",
            "3:14: `10.1.4.7/24` has bits behind its length of 24: write \"10.1.4.0/24\", or the address without a slash"
                .into(),
        ),
    ] {
        assert_eq!(refusal(&rule(line)), words);
    }
}

#[test]
fn what_another_tenant_has_already_is_warned_of() {
    let text = "[[tenant]]\nname = \"a\"\nusers = [\"u\"]\nclient_names = [\"u\"]\naddresses = [\"10.0.0.0/8\"]\n\
                [[tenant]]\nname = \"b\"\nusers = [\"u\", \"u*\"]\naddresses = [\"10.1.0.0/16\", \"11.0.0.0/8\"]";
    assert_eq!(
        warnings(text),
        [
            "test.toml:8: user `u` already belongs to tenant `a`: the first match wins",
            "test.toml:9: `10.1.0.0/16` lies in `10.0.0.0/8` of tenant `a`: the first match wins",
        ]
    );
    assert_eq!(
        warnings("[[tenant]]\nname = \"a\""),
        [
            "test.toml:1: tenant `a` has neither prefixes nor users, client names or addresses: nothing belongs to it"
        ]
    );
}

#[test]
fn more_users_or_ranges_than_the_kernel_holds_are_refused_at_the_first_beyond() {
    let most = agent_common::limits::CLASS_NAMES;
    let list = |count: usize, name: &dyn Fn(usize) -> String| -> String {
        (0..count)
            .map(|number| format!("\"{}\",\n", name(number)))
            .collect()
    };
    let users = |count| {
        let names = list(count, &|number| format!("u{number}"));
        format!("[[tenant]]\nname = \"a\"\nusers = [\n{names}]")
    };
    assert!(parse(&users(most)).is_ok());
    assert!(refusal(&users(most + 1)).starts_with(&format!(
        "{}:1: `u{most}` is one more than the {most} different users and client names",
        most + 4
    )));
    let ranges = |count| {
        let ranges = list(count, &|number| {
            format!("10.{}.{}.0/24", number / 256, number % 256)
        });
        format!("[[tenant]]\nname = \"a\"\naddresses = [\n{ranges}]")
    };
    let most = agent_common::limits::CLASS_ADDRESSES;
    assert!(parse(&ranges(most)).is_ok());
    assert!(refusal(&ranges(most + 1)).contains("is one more than the 16384 different ranges"));
}

#[test]
fn a_declared_prefix_that_is_too_long_is_refused() {
    let rule = |bytes: usize| {
        format!(
            "[[tenant]]\nname = \"a\"\nprefixes = [\"b\", \"{}*\"]",
            "x".repeat(bytes)
        )
    };
    assert_eq!(declared(&rule(32)).len(), 1);
    assert_eq!(
        refusal(&rule(33)),
        format!(
            "3:18: `{}*` can never match: 33 bytes in front of the `*` are more than a prefix can have, \
             `keys.max_prefix_bytes = 32`: keep the first 32 bytes or fewer",
            "x".repeat(33)
        )
    );
    let short = format!("[keys]\nmax_prefix_bytes = 8\n{}", rule(9));
    assert!(refusal(&short).contains("`keys.max_prefix_bytes = 8`: keep the first 8 bytes"));
}

#[test]
fn more_declared_prefixes_than_the_kernel_holds_are_refused_at_the_first_beyond() {
    let most = agent_common::limits::DECLARED_PREFIXES;
    let rules = |count: usize| {
        let prefixes = (0..count).map(|number| format!("\"p{number}-*\",\n"));
        format!(
            "[[tenant]]\nname = \"a\"\nprefixes = [\n{}\"p0-*\"]",
            prefixes.collect::<String>()
        )
    };
    assert_eq!(
        declared(&rules(most)).len(),
        most,
        "one that is there twice is one"
    );
    assert_eq!(
        refusal(&rules(most + 1)),
        format!(
            "{}:1: `p{most}-*` is one more than the {most} different prefixes that can end in `*`: use shorter ones \
             that stand for several, or exact prefixes where keys have a delimiter",
            4 + most
        )
    );
}

#[test]
fn what_is_probably_not_meant_is_accepted_with_a_warning() {
    let warned = |prefixes: &str| warnings(&format!("[[tenant]]\nname = \"a\"\nprefixes = {prefixes}"));
    assert!(warned(r#"["a", "(none)", "b*", "c[:]d", '\x28none)']"#).is_empty());
    assert_eq!(
        warned("[]"),
        [
            "test.toml:1: tenant `a` has neither prefixes nor users, client names or addresses: nothing belongs to it"
        ]
    );
    assert_eq!(
        warned("[\"cart:\", \"cart:*\"]"),
        ["cart:", "cart:*"].map(|prefix| format!(
            "test.toml:3: prefix `{prefix}` can never match: with `keys.depth = 1` a prefix ends before delimiter 1"
        ))
    );
    assert!(warned("[\"(nope)\"]")[0].contains("the rows in parentheses are (none), (keyless)"));
    assert!(warned(&format!("[\"{}\"]", "x".repeat(33)))[0].contains("max_prefix_bytes = 32"));
}

#[test]
fn a_prefix_named_twice_belongs_to_the_first_and_is_warned_about() {
    let text =
        "[[tenant]]\nname = \"a\"\nprefixes = [\"x\"]\n[[tenant]]\nname = \"b\"\nprefixes = [\"y\", \"x\"]";
    assert_eq!(
        warnings(text),
        ["test.toml:6: prefix `x` already belongs to tenant `a`: the first match wins"]
    );
}

#[test]
fn more_tenants_than_the_limit_are_accepted_with_a_warning() {
    let text = "[limits]\ntenants = 1\n[[tenant]]\nname = \"a\"\nprefixes = [\"x\"]\n[[tenant]]\nname = \"b\"\nprefixes = [\"y\"]";
    assert_eq!(
        warnings(text),
        ["test.toml: 2 tenants but `limits.tenants` is 1: the last 1 count in (other)"]
    );
}

#[test]
fn a_workload_has_its_ranges_in_the_order_of_the_file() {
    let settings = parse(
        "[[workload]]\nname = \"b\"\naddresses = [\"fd00::/8\", \"10.0.0.1\"]\n\
         [[workload]]\nname = \"a\"\naddresses = [\"10.0.0.0/8\"]",
    )
    .expect("accepted");
    let shown: Vec<_> = settings
        .workloads
        .iter()
        .map(|rule| {
            let ranges: Vec<_> = rule.addresses.iter().map(ToString::to_string).collect();
            (rule.name.as_str(), ranges.join(" "))
        })
        .collect();
    assert_eq!(
        shown,
        [("b", "fd00::/8 10.0.0.1".into()), ("a", "10.0.0.0/8".into())]
    );
    assert_eq!(settings.warnings, [""; 0]);
}

#[test]
fn a_workload_needs_a_name_of_its_own() {
    for (text, expected) in [
        (
            "[[workload]]\naddresses = []",
            "1:1: this workload has no name: add `name = \"...\"`",
        ),
        (
            "[[workload]]\nname = \"(other)\"",
            "2:8: the workload's name `(other)` is in parentheses, which are reserved for rows such as (unassigned): \
             write a short name, such as \"checkout-api\"",
        ),
        (
            "[[workload]]\nname = \"10.0.0.1\"",
            "2:8: the workload's name `10.0.0.1` is an address, as clients without a workload are called: write a \
             short name, such as \"checkout-api\"",
        ),
        (
            "[[workload]]\nname = \"a\"\n[[workload]]\nname = \"a\"",
            "4:8: a second workload `a`: give everything to one [[workload]], or choose another name",
        ),
    ] {
        assert_eq!(refusal(text), expected);
    }
}

#[test]
fn a_workload_can_have_users_and_client_names_by_globs() {
    let settings =
        parse("[[workload]]\nname = \"a\"\nusers = [\"a-svc\", \"*-b\"]\nclient_names = [\"*\", '\\x28*']")
            .expect("accepted");
    let texts = |globs: &[globset::Glob]| {
        globs
            .iter()
            .map(|glob| glob.glob().to_owned())
            .collect::<Vec<_>>()
    };
    let workload = &settings.workloads[0];
    assert_eq!(texts(&workload.users), ["a-svc", "*-b"]);
    assert_eq!(texts(&workload.client_names), ["*", "\\x28*"]);
    assert_eq!(settings.warnings, [""; 0]);
    for (line, expected) in [
        (
            "users = [\"default\"]",
            "3:10: `default` is the user of all who name none, and nobody's workload: group those clients by name, \
             address or owner",
        ),
        (
            "users = [\"\"]",
            "3:10: an empty text is not an ACL user: write a name, or a glob, such as \"checkout-*\"",
        ),
        (
            "client_names = [\"default\", \"a[\"]",
            "3:28: `a[` is not a glob (unclosed character class; missing ']'): write `*` for any text, `?` for one \
             character, `[ab]` for one of some",
        ),
    ] {
        assert_eq!(refusal(&format!("[[workload]]\nname = \"a\"\n{line}")), expected);
    }
}

#[test]
fn an_address_of_a_workload_that_is_none_is_refused_with_its_place() {
    for (range, expected) in [
        (
            "10.1.4",
            "`10.1.4` is neither an address nor a range of addresses: write an address, such as \"10.1.4.7\", or a \
             range, such as \"10.1.4.0/24\" or \"fd00::/8\"",
        ),
        (
            "10.1.4.0/33",
            "`10.1.4.0/33` has a wrong length behind the slash: write a number of bits from 0 to 32",
        ),
        (
            "10.1.4.7/24",
            "`10.1.4.7/24` has bits behind its length of 24: write \"10.1.4.0/24\", or the address without a slash",
        ),
    ] {
        let text = format!("[[workload]]\nname = \"a\"\naddresses = [\"10.0.0.1\", \"{range}\"]");
        assert_eq!(refusal(&text), format!("3:26: {expected}"));
    }
}

#[test]
fn a_workload_that_gets_nobody_is_accepted_with_a_warning() {
    assert_eq!(
        warnings("[[workload]]\nname = \"a\""),
        ["test.toml:1: workload `a` has no addresses, owners, users or client names: nobody belongs to it"]
    );
    let twice = "[[workload]]\nname = \"a\"\naddresses = [\"10.0.0.0/8\"]\n\
                 [[workload]]\nname = \"b\"\naddresses = [\"10.1.0.0/16\", \"11.0.0.0/8\", \"10.0.0.0/8\"]";
    assert_eq!(
        warnings(twice),
        [
            "test.toml:6: `10.1.0.0/16` lies in `10.0.0.0/8` of workload `a`: the first match wins",
            "test.toml:6: `10.0.0.0/8` lies in `10.0.0.0/8` of workload `a`: the first match wins",
        ]
    );
    let beyond = "[limits]\nworkloads = 1\n[[workload]]\nname = \"a\"\naddresses = [\"10.0.0.1\"]\n\
                  [[workload]]\nname = \"b\"\naddresses = [\"10.0.0.2\"]";
    assert_eq!(
        warnings(beyond),
        ["test.toml: 2 workloads but `limits.workloads` is 1: the last 1 count in (other)"]
    );
}

#[test]
fn a_file_that_cannot_be_read_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("no.toml");
    let error = Settings::load(Some(&missing)).expect_err("missing");
    assert!(
        error
            .to_string()
            .ends_with("name an existing file with --config, or leave --config out"),
        "{error}"
    );
    assert!(
        Settings::load(Some(folder.path()))
            .expect_err("a folder")
            .reason
            .starts_with("cannot read")
    );

    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, b"[keys]\n# \xff").expect("written");
    let error = Settings::load(Some(&binary)).expect_err("not UTF-8");
    assert_eq!(error.position, Some(Position { line: 2, column: 3 }));

    let device = Settings::load(Some(Path::new("/dev/zero"))).expect_err("endless");
    assert!(device.reason.contains("larger than"), "{device}");
}

/// The field names of a raw struct, as serde knows them.
fn fields<'de, T: Deserialize<'de>>() -> Vec<&'static str> {
    let mut names = Vec::new();
    // The visitor is never called: asking for the struct is answered by an error, once the names are noted.
    _ = T::deserialize(FieldNames(&mut names));
    assert!(!names.is_empty(), "not a struct");
    names
}

struct FieldNames<'a>(&'a mut Vec<&'static str>);

impl<'de> de::Deserializer<'de> for FieldNames<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("only structs are asked for"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.extend(fields);
        Err(de::Error::custom("noted"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
