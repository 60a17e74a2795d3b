//! Secrets in what a server is started with: the agent reads that for its `maxclients`.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use stormglass_tests::poll;
use stormglass_tests::secrets::Secrets;
use stormglass_tests::server::Plan;

use super::search::Watched;
use super::speech::LENGTH;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn nothing_is_left_of_a_configuration_that_was_read() -> Result<()> {
    let watched = Watched::start("")?;
    let mut secrets = Secrets::default();
    let lines = format!(
        "requirepass {}\nmaxclients 77\n# {}\nprimaryauth {}\nuser someone on >{} +@all\n",
        secrets.make("password in a configuration", LENGTH),
        secrets.make("comment in a configuration", LENGTH),
        secrets.make("password for the primary", LENGTH),
        secrets.make("password of a user", LENGTH),
    );
    let server = Plan::valkey()?.config(&lines).start()?;
    poll::until_true("the configuration is read", Duration::from_secs(5), || {
        let servers: Value = serde_json::from_str(&watched.agent.get("/api/v1/servers")?.1)?;
        Ok(servers["servers"][0]["maxclients"] == 77)
    })?;
    let connection = server.connect()?;
    watched.agent.sees(&server.label())?;
    watched.look(&[server.id()])?.assert_nothing(&secrets);
    drop(connection);
    watched.end(&secrets)
}
