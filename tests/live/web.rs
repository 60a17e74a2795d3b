//! TLS and passwords for the pages, with certificates by openssl and questions by curl.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use stormglass_tests::process::{Finished, Process, read_output};
use stormglass_tests::prometheus::{Pace, Prometheus, Target};
use stormglass_tests::terminal::Terminal;
use stormglass_tests::{lab, poll, ports};
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(10);

/// Of `storm glass`, and of `other`, by bcrypt with the cost 5.
const STORM_GLASS: &str = "$2b$05$abcdefghijklmnopqrstuu7QY6g5l7EkrOGsRS8d8odosIngK5rpK";
const OTHER: &str = "$2y$05$abcdefghijklmnopqrstuuVQd15VhR/oN1H3pzUR5lME0fZO6.qRW";

/// An authority, what it has signed for the agent and for a client, and a stranger's authority.
const CERTIFICATES: &str = r#"set -e
new() { "$OPENSSL" req -config names.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "$@"; }
new -x509 -days 2 -extensions authority -subj /CN=authority -keyout ca.key -out ca.pem
new -x509 -days 2 -extensions authority -subj /CN=stranger -keyout stranger.key -out stranger.pem
for name in server client; do
    new -subj "/CN=$name" -keyout "$name.key" -out "$name.csr"
    "$OPENSSL" x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out "$name.pem" \
        -extfile names.cnf -extensions leaf
done"#;

const NAMES: &str = "[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical,CA:TRUE
[leaf]
subjectAltName = IP:127.0.0.1,DNS:localhost
";

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn pages_are_served_by_tls_to_who_has_the_password_and_a_changed_file_is_in_force() -> Result<()> {
    let stage = Stage::new()?;
    stage.web("", STORM_GLASS)?;
    let mut agent = stage.start()?;
    stage.wait_for(&mut agent, &["--user", "operator:storm glass"], "/metrics", "200")?;

    // kubelet has no password.
    assert_eq!(stage.status(&[], "/healthz")?, "200");
    assert_eq!(stage.status(&[], "/metrics")?, "401");
    assert_eq!(
        stage.status(&["--user", "operator:glass storm"], "/metrics")?,
        "401"
    );
    assert_eq!(
        stage.status(&["--user", "nobody:storm glass"], "/api/v1/config")?,
        "401"
    );
    assert_eq!(
        stage.status(&["--header", "authorization: Basic :::"], "/")?,
        "401"
    );
    let strict = ["--user", "operator:storm glass", "--tlsv1.3"];
    assert_eq!(stage.status(&strict, "/")?, "200");
    assert!(
        stage.status(&["--tls-max", "1.2"], "/healthz").is_err(),
        "TLS 1.2 is taken"
    );
    let plain = format!("http://127.0.0.1:{}/healthz", stage.port);
    assert!(
        read_output(
            "curl",
            Command::new(lab::curl()?).args(["--silent", &plain]),
            WITHIN
        )
        .is_err()
    );

    let list = stage.command(&["storms", "--json"])?;
    assert!(list.status.success(), "{list:?}");
    fs::write(stage.path("password"), "wrong\n")?;
    let refused = stage.command(&["storms"])?;
    assert!(
        refused.stderr.contains("asks for a user and a password"),
        "{refused:?}"
    );
    stage.top("asks for a user and a password")?;
    fs::write(stage.path("password"), "storm glass\n")?;
    stage.top(" no storm")?;

    fs::write(stage.path("web.yml"), "tls_server_config: {cert_file: server.pem")?;
    poll::until_true("the bad file is told", WITHIN, || {
        Ok(agent.stderr().contains("the web configuration is wrong"))
    })?;
    assert_eq!(stage.status(&strict, "/")?, "200");
    stage.web("", OTHER)?;
    stage.wait_for(&mut agent, &["--user", "operator:other"], "/metrics", "200")?;
    assert_eq!(stage.status(&strict, "/")?, "401");
    Ok(())
}

/// As docs/SECURITY.md and every scrape configuration have it.
#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn prometheus_scrapes_by_tls_with_the_password() -> Result<()> {
    let stage = Stage::new()?;
    stage.web("", STORM_GLASS)?;
    let mut agent = stage.start()?;
    stage.wait_for(&mut agent, &["--user", "operator:storm glass"], "/metrics", "200")?;
    let scrape = format!(
        "scheme: https\ntls_config: {{ ca_file: {:?} }}\nbasic_auth: {{ username: operator, password: storm glass }}\n",
        stage.path("ca.pem")
    );
    let target = Target {
        address: SocketAddr::from(([127, 0, 0, 1], stage.port)),
        labels: "instance: 'host-1:9466'".into(),
    };
    let prometheus = Prometheus::start_with(Pace::MINUTES, &scrape, &[target], &[] as &[&Path], None)?;
    poll::until_true("a scrape", WITHIN, || {
        Ok(prometheus.query("stormglass_build_info")?.len() == 1)
    })?;
    prometheus.stop()
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_client_without_a_certificate_of_the_right_authority_is_not_let_in() -> Result<()> {
    let stage = Stage::new()?;
    stage.web(
        "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n",
        STORM_GLASS,
    )?;
    let mut agent = stage.start()?;
    let (certificate, key) = (stage.path("client.pem"), stage.path("client.key"));
    let known = [
        "--cert",
        &certificate,
        "--key",
        &key,
        "--user",
        "operator:storm glass",
    ];
    stage.wait_for(&mut agent, &known, "/metrics", "200")?;
    assert!(
        stage.status(&[], "/healthz").is_err(),
        "no certificate is asked for"
    );
    let (certificate, key) = (stage.path("stranger.pem"), stage.path("stranger.key"));
    assert!(
        stage
            .status(&["--cert", &certificate, "--key", &key], "/healthz")
            .is_err()
    );
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_web_configuration_that_cannot_be_kept_ends_run_with_the_reason() -> Result<()> {
    let stage = Stage::new()?;
    for (text, reason) in [
        (
            "tls_server_config:\n  cert_file: server.pem\n",
            "key_file is missing",
        ),
        (
            "tls_server_config:\n  cert_file: server.pem\n  key_file: client.key\n",
            "tls_server_config: ",
        ),
        (
            "tls_server_config:\n  cert_file: none.pem\n  key_file: server.key\n",
            "none.pem: No such file",
        ),
        ("basic_auth_users:\n  me: secret\n", "no bcrypt hash"),
        ("tls_server_config:\n  cipher_suites: [x]\n", "cipher_suites"),
        ("rate_limits: {}\n", "rate_limits"),
    ] {
        fs::write(stage.path("web.yml"), text)?;
        let finished = stage.command(&["run"])?;
        assert!(!finished.status.success(), "{text} is taken");
        assert!(finished.stderr.contains(reason), "{text}: {}", finished.stderr);
        assert!(!finished.stderr.contains("secret"), "{}", finished.stderr);
    }
    Ok(())
}

/// A folder with certificates and configurations.
struct Stage {
    dir: TempDir,
    port: u16,
}

impl Stage {
    fn new() -> Result<Self> {
        let stage = Self {
            dir: tempfile::tempdir()?,
            port: ports::free_port()?,
        };
        fs::write(stage.path("names.cnf"), NAMES)?;
        let mut make = Command::new("sh");
        make.args(["-c", CERTIFICATES])
            .env("OPENSSL", lab::openssl()?)
            .current_dir(stage.dir.path());
        read_output("openssl", &mut make, WITHIN)?;
        fs::write(stage.path("password"), "storm glass\n")?;
        let (port, folder) = (stage.port, stage.dir.path().display());
        fs::write(
            stage.path("stormglass.toml"),
            format!(
                "[http]\nlisten = \"127.0.0.1:{port}\"\nweb_config = \"{folder}/web.yml\"\n\
                 [command_line]\nurl = \"https://127.0.0.1:{port}\"\nca_file = \"{folder}/ca.pem\"\n\
                 basic_auth_user = \"operator\"\nbasic_auth_password_file = \"{folder}/password\"\n\
                 [incidents]\ndir = \"{folder}/incidents\"\n[alerts]\ndir = \"{folder}/alerts\"\n"
            ),
        )?;
        Ok(stage)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn web(&self, tls: &str, hash: &str) -> Result<()> {
        let text = format!(
            "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  min_version: TLS13\n{tls}\
             basic_auth_users:\n  operator: {hash}\n"
        );
        // As Kubernetes and editors do: never half a file.
        fs::write(self.path("web.new"), text)?;
        fs::rename(self.path("web.new"), self.path("web.yml"))?;
        Ok(())
    }

    fn start(&self) -> Result<Process> {
        let mut command = Command::new(lab::agent()?);
        command.args(["run", "--config", &self.path("stormglass.toml")]);
        Process::spawn("stormglass", &mut command)
    }

    fn command(&self, arguments: &[&str]) -> Result<Finished> {
        let mut command = Command::new(lab::agent()?);
        command
            .args(arguments)
            .args(["--config", &self.path("stormglass.toml")]);
        Process::spawn("stormglass", &mut command)?.finish(WITHIN)
    }

    /// What `top` shows.
    fn top(&self, shown: &str) -> Result<String> {
        let terminal = Terminal::start(80, 24)?;
        let (agent, config) = (lab::agent()?, self.path("stormglass.toml"));
        terminal.types(&format!("clear; {} top --config {config}", agent.display()))?;
        terminal.press("Enter")?;
        terminal.shows_flowing(shown)
    }

    /// The status of an answer by TLS; no agreement on TLS is an error.
    fn status(&self, options: &[&str], page: &str) -> Result<String> {
        let url = format!("https://127.0.0.1:{}{page}", self.port);
        let mut curl = Command::new(lab::curl()?);
        curl.args([
            "--silent",
            "--show-error",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
        ])
        .args(["--cacert", &self.path("ca.pem")])
        .args(options)
        .arg(url);
        read_output("curl", &mut curl, WITHIN)
    }

    fn wait_for(&self, agent: &mut Process, options: &[&str], page: &str, status: &str) -> Result<()> {
        poll::until_true("an answer", WITHIN, || {
            if !agent.is_running()? {
                bail!("the agent ended: {}", agent.words());
            }
            Ok(self.status(options, page).is_ok_and(|found| found == status))
        })
    }
}
