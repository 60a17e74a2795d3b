//! Tenants by prefix, from the configuration.

use anyhow::Result;
use stormglass_tests::agent::Agent;
use stormglass_tests::exposition::whole;
use stormglass_tests::ledger::Account;
use stormglass_tests::server::{Plan, Traffic};

const CONFIG: &str = r#"
[[tenant]]
name = "checkout"
owner = "team-checkout"
prefixes = ["cart", "pay-*"]

[[tenant]]
name = "search"
prefixes = ["index"]

[[tenant]]
name = "idle"
prefixes = ["nobody"]
"#;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_tenant_has_the_bytes_and_commands_of_its_prefixes_and_all_together_those_of_the_server() -> Result<()> {
    let agent = Agent::start_with(CONFIG)?;
    let server = Plan::valkey()?.start()?;
    agent.sees(&server.label())?;
    let mut connection = server.connect()?;
    for (prefix, size) in [
        ("cart", 10),
        ("pay-eu", 100),
        ("pay-us", 1_000),
        ("index", 10_000),
        ("else", 7),
    ] {
        for number in 0..20 {
            let key = format!("{prefix}:{number}");
            connection.ask(&[b"SET", key.as_bytes(), &vec![b'x'; size]])?;
            connection.ask(&[b"GET", key.as_bytes()])?;
        }
    }
    let account = Account::from_the_start(&agent, &server)?;
    account.assert_all_attributed();

    let scrape = agent.scrape()?;
    let label = server.label();
    let tenant = |name: &str| scrape.tenant(&label, name);
    let prefixes = |names: &[&str]| {
        names.iter().fold(Traffic::default(), |sum, name| {
            sum.plus(account.counted.prefixes[*name])
        })
    };
    assert_eq!(tenant("checkout"), prefixes(&["cart", "pay-eu", "pay-us"]));
    assert_eq!(tenant("checkout").commands, 120);
    assert_eq!(tenant("search"), prefixes(&["index"]));
    assert_eq!(tenant("idle"), Traffic::default());
    let everything: u64 = scrape
        .series("stormglass_tenant_bytes_total", &[("server", label.as_str())])
        .map(|(_, bytes)| whole(bytes))
        .sum();
    assert_eq!(everything, account.server.bytes_in + account.server.bytes_out);
    Ok(())
}
