//! Asking the running agent.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use clap::Args;
use rustls::crypto::ring;
use serde_json::Value;
use stormglass::config::{CommandLine, Settings};
use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Body, RequestBuilder};

use super::ConfigArguments;

/// How long the running agent may take: a page of a large host takes it a second or two.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Largest answer in bytes. 65,536 clients at each of a few servers are some tens of megabytes.
const ANSWER_BYTES: u64 = 256 << 20;

/// What is said of an answer that is JSON and not what this version reads.
pub(super) const NOT_UNDERSTOOD: &str = "the answer is not understood; is another version running?";

/// How much of a refusal is shown, in characters: one sentence. More is another program's page.
const REFUSAL_CHARACTERS: usize = 200;

/// Which agent is asked.
#[derive(Debug, Args)]
pub(super) struct AgentArguments {
    #[command(flatten)]
    pub(super) config: ConfigArguments,
    /// Where the agent answers, such as http://10.0.0.7:9466 [default: `command_line.url` or `http.listen` of the configuration]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// The parameter by which a page is about one server alone, if it is to be.
pub(super) fn of_server(label: Option<&str>) -> Option<(&'static str, &str)> {
    label.map(|label| ("server", label))
}

impl AgentArguments {
    /// The agent that is meant. The configuration is read only where no URL is given.
    pub(super) fn agent(&self) -> Result<Agent> {
        match &self.url {
            Some(url) if !url.starts_with("https://") => Agent::at_url(url, &CommandLine::default()),
            Some(url) => Agent::at_url(url, &self.config.load()?.command_line),
            None => Agent::of(&self.config.load()?),
        }
    }

    /// Whether the agent was named by a URL.
    pub(super) const fn names_url(&self) -> bool {
        self.url.is_some()
    }

    /// The tenants of the configuration, unless a URL was given: that of another agent is not at hand.
    pub(super) fn tenant_names(&self) -> Result<Vec<String>> {
        if self.url.is_some() {
            return Ok(Vec::new());
        }
        let tenants = self.config.load()?.tenants;
        Ok(tenants.iter().map(|tenant| tenant.name.as_str().into()).collect())
    }
}

/// A running agent, by its address.
pub(super) struct Agent {
    base: String,
    http: ureq::Agent,
    authorization: Option<String>,
}

impl Agent {
    /// The agent of this configuration.
    pub(super) fn of(settings: &Settings) -> Result<Self> {
        let ways = &settings.command_line;
        match &ways.url {
            Some(url) => Self::at_url(url, ways),
            None => Self::new(format!("http://{}", reachable(settings.http.listen)), true, ways),
        }
    }

    fn at_url(url: &str, ways: &CommandLine) -> Result<Self> {
        let (scheme, address) = match url.split_once("://") {
            None => ("http", url),
            Some((scheme @ ("http" | "https"), address)) => (scheme, address),
            Some(_) => ("http", ""),
        };
        let address = address.trim_end_matches('/');
        if address.is_empty() {
            bail!("--url {url}: write an address such as http://127.0.0.1:9466");
        }
        let local = address
            .parse()
            .is_ok_and(|address: SocketAddr| address.ip().is_loopback());
        Self::new(format!("{scheme}://{address}"), local || scheme == "https", ways)
    }

    /// `private`: nobody can read the password on the way.
    fn new(base: String, private: bool, ways: &CommandLine) -> Result<Self> {
        let http = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // It is on this host or near: no environment variable may send the question elsewhere.
            .proxy(None)
            .tls_config(tls(ways)?)
            .build()
            .into();
        let authorization = match &ways.basic_auth {
            Some((user, password)) if private => Some(authorization(user, password)?),
            _ => None,
        };
        Ok(Self {
            base,
            http,
            authorization,
        })
    }

    fn allowed<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        }
    }

    /// Where it is asked: host and port, with a scheme if that is not http.
    pub(super) fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// The JSON of a page, with these parameters behind its path.
    pub(super) fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let url = format!("{}{path}", self.base);
        let request = parameters
            .iter()
            .fold(self.allowed(self.http.get(&url)), |request, (name, value)| {
                request.query(*name, *value)
            });
        self.answer(&url, request.call())
    }

    /// The answer to a JSON document.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let url = format!("{}{path}", self.base);
        let request = self
            .allowed(self.http.post(&url))
            .content_type("application/json")
            .send(body.to_string());
        self.answer(&url, request)
    }

    /// The answer to a request that something be taken away.
    pub(super) fn delete(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let url = format!("{}{path}", self.base);
        let request = parameters
            .iter()
            .fold(self.allowed(self.http.delete(&url)), |request, (name, value)| {
                request.query(*name, *value)
            });
        self.answer(&url, request.call())
    }

    /// Whether a question failed because nobody listens there, and not because of what somebody answered.
    pub(super) fn is_nobody_there(error: &anyhow::Error) -> bool {
        matches!(error.downcast_ref(), Some(ureq::Error::Io(io)) if io.kind() == ErrorKind::ConnectionRefused)
    }

    fn answer(&self, url: &str, answer: Result<Response<Body>, ureq::Error>) -> Result<Value> {
        let mut response = answer.with_context(|| {
            format!(
                "no agent answers at {}; is it running? `stormglass run` starts one, --url or --config names another",
                self.base
            )
        })?;
        let status = response.status();
        let body = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES)
            .read_to_string()
            .with_context(|| {
                format!("the answer of {url} broke off, or is no text; is another program there?")
            })?;
        match status.as_u16() {
            200 => {}
            401 => bail!(
                "{url} asks for a user and a password; set `basic_auth_user` and `basic_auth_password_file` in \
                 [command_line] (they are sent by https, and to this host)"
            ),
            404 => bail!(
                "{url} answers 404: {}; is it another program, or an agent of another version?",
                sentence(&body)
            ),
            status => bail!("{url} answers {status}: {}", sentence(&body)),
        }
        serde_json::from_str(&body)
            .with_context(|| format!("the answer of {url} is not JSON; is another program there?"))
    }
}

/// Nobody is trusted but who is named: agents have certificates of their owner's authority.
fn tls(ways: &CommandLine) -> Result<TlsConfig> {
    let mut trusted = Vec::new();
    if let Some(path) = &ways.ca_file {
        let pem = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        for item in parse_pem(&pem) {
            let item = item.with_context(|| format!("{} holds no certificates", path.display()))?;
            if let PemItem::Certificate(certificate) = item {
                trusted.push(certificate);
            }
        }
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&trusted))
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build())
}

fn authorization(user: &str, password: &Path) -> Result<String> {
    let text = fs::read_to_string(password).with_context(|| format!("cannot read {}", password.display()))?;
    let pair = format!("{user}:{}", text.trim_end_matches(['\r', '\n']));
    Ok(format!("Basic {}", BASE64_STANDARD.encode(pair)))
}

/// An address that listens everywhere is reached by loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// The first line of a refusal, fit for a terminal.
fn sentence(body: &str) -> String {
    let line = body.lines().find(|line| !line.trim().is_empty());
    let plain = line.unwrap_or("(no reason given)").trim().chars();
    plain
        .map(|character| if character.is_control() { '?' } else { character })
        .take(REFUSAL_CHARACTERS)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What the command says when somebody answers the question like this.
    fn answered(reply: &str) -> Result<Value> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        let reply = reply.to_owned();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("asked");
            let mut request = [0; 4096];
            let length = stream.read(&mut request).expect("a question");
            stream.write_all(reply.as_bytes()).expect("answered");
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let answer = agent_at(address).get("/api/v1/tenants", &[("server", "a b&c:1")]);
        let request = server.join().expect("no panic");
        assert!(
            request.starts_with("GET /api/v1/tenants?server=a%20b%26c%3A1 HTTP/1.1\r\n"),
            "{request}"
        );
        answer
    }

    fn agent_at(address: SocketAddr) -> Agent {
        Agent::at_url(&format!("http://{address}"), &CommandLine::default()).expect("an agent")
    }

    fn page(status: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
    }

    fn words(answer: Result<Value>) -> String {
        format!("{:#}", answer.expect_err("refused"))
    }

    #[test]
    fn an_answer_is_read() {
        let answer = answered(&page("200 OK", r#"{"tenants":[]}"#)).expect("JSON");
        assert_eq!(answer, serde_json::json!({"tenants": []}));
    }

    #[test]
    fn the_reason_of_a_refusal_is_passed_on_in_one_line() {
        let said = words(answered(&page("404 Not Found", "\nno such page\n<html>\n")));
        assert!(
            said.contains(" answers 404: no such page; is it another program, "),
            "{said}"
        );
        let said = words(answered(&page("503 Service Unavailable", "\x1b[31mred")));
        assert!(said.contains(" answers 503: ?[31mred"), "{said}");
        let said = words(answered(&page("500 Oops", &"x".repeat(10_000))));
        assert!(said.len() < 400, "{said}");
    }

    #[test]
    fn an_answer_that_is_not_json_asks_for_another_program() {
        let error = answered(&page("200 OK", "<html></html>")).expect_err("no JSON");
        assert!(!Agent::is_nobody_there(&error), "{error:?}");
        let said = format!("{error:#}");
        assert!(said.contains("is not JSON; is another program there?"), "{said}");
    }

    #[test]
    fn nobody_there_says_what_to_do() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let error = agent_at(address)
            .get("/api/v1/tenants", &[])
            .expect_err("refused");
        assert!(Agent::is_nobody_there(&error), "{error:?}");
        let said = format!("{error:#}");
        assert!(
            said.starts_with(&format!("no agent answers at http://{address}; is it running?")),
            "{said}"
        );
        assert!(said.contains("--url"), "{said}");
    }

    #[test]
    fn a_url_may_leave_out_what_goes_without_saying() {
        for (url, base) in [
            ("http://a:1", "http://a:1"),
            ("http://a:1/", "http://a:1"),
            ("a:1", "http://a:1"),
            ("https://a:1/", "https://a:1"),
        ] {
            assert_eq!(Agent::at_url(url, &CommandLine::default()).expect(url).base, base);
        }
        for url in ["ftp://a", "http://", "https://", ""] {
            let said = words(Agent::at_url(url, &CommandLine::default()).map(|_| Value::Null));
            assert!(said.contains("write "), "{said}");
        }
    }

    #[test]
    fn an_address_that_listens_everywhere_is_asked_by_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:9466", "127.0.0.1:9466"),
            ("[::]:9466", "[::1]:9466"),
            ("10.0.0.7:1", "10.0.0.7:1"),
        ] {
            let listen = listen.parse().expect("an address");
            assert_eq!(reachable(listen).to_string(), asked);
        }
    }
}
