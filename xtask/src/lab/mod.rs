//! The lab: toolchain, servers and tools of pinned versions below `target/lab`, nothing installed on the host.
//!
//! Each part lies in a folder of its own with a stamp that names its versions; a part whose stamp fits is not touched
//! again. Everything that is started from here is found in `target/lab/bin`, under the name it has in its package.

mod apt;
pub(crate) mod browser;
pub(crate) mod fuzzer;
pub(crate) mod languages;
pub(crate) mod machines;
mod node;
pub(crate) mod part;
mod pip;
pub(crate) mod servers;
pub(crate) mod toolchain;
pub(crate) mod tools;

use std::path::{Path, PathBuf};
use std::process::Command;

/// Paths of the lab. They exist once the `ensure_*` function that brings them has succeeded.
pub(crate) struct Lab {
    workspace: PathBuf,
    /// Below the target folder: the daemon that is put on stage.
    agent: &'static str,
}

/// What `cargo xtask build` leaves.
const RELEASED: &str = "release/stormglass";

/// What [`crate::build::for_tests`] leaves.
const TESTED: &str = "debug/stormglass";

impl Lab {
    /// The lab of this workspace. Nothing is created yet.
    pub(crate) fn new() -> Self {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self {
            workspace: manifest.parent().unwrap_or(manifest).to_owned(),
            agent: RELEASED,
        }
    }

    /// The same lab with the tests' daemon on stage instead of the released one.
    pub(crate) fn with_tested_agent(&self) -> Self {
        Self {
            workspace: self.workspace.clone(),
            agent: TESTED,
        }
    }

    /// Root of the workspace.
    pub(crate) fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// The shared target folder. Cargo is always told to use it, whatever the environment says.
    pub(crate) fn target(&self) -> PathBuf {
        self.workspace.join("target")
    }

    /// Where everything lies.
    pub(crate) fn dir(&self) -> PathBuf {
        self.target().join("lab")
    }

    /// A program of the lab by its package's name for it; runs as it is, without an environment.
    fn bin(&self, name: &str) -> PathBuf {
        self.dir().join("bin").join(name)
    }

    /// The daemon that is put on stage: the release binary, left there by `cargo xtask build`, unless the lab is one
    /// [`Self::with_tested_agent`].
    pub(crate) fn agent(&self) -> PathBuf {
        self.target().join(self.agent)
    }

    /// Where [`crate::build::for_tests`] leaves the daemon.
    pub(crate) fn tested_agent(&self) -> PathBuf {
        self.target().join(TESTED)
    }

    /// The load generator that [`crate::build::load`] leaves.
    pub(crate) fn load(&self) -> PathBuf {
        self.target().join("debug/stormglass-load")
    }

    /// Valkey 9.1 server, without TLS. From [`servers::ensure_servers`].
    pub(crate) fn valkey_server(&self) -> PathBuf {
        self.bin("valkey-server")
    }

    /// Load generator of Valkey. From [`servers::ensure_servers`].
    pub(crate) fn valkey_benchmark(&self) -> PathBuf {
        self.bin("valkey-benchmark")
    }

    /// Command line client of Valkey. From [`servers::ensure_servers`].
    pub(crate) fn valkey_cli(&self) -> PathBuf {
        self.bin("valkey-cli")
    }

    /// Redis 7.0 server. From [`servers::ensure_servers`].
    pub(crate) fn redis_server(&self) -> PathBuf {
        self.bin("redis-server")
    }

    /// Valkey 8.0 server. From [`servers::ensure_servers`].
    pub(crate) fn valkey_8_0(&self) -> PathBuf {
        self.bin("valkey-server-8.0")
    }

    /// Valkey 8.1 server, in a root of its own. From [`servers::ensure_servers`].
    pub(crate) fn valkey_8_1(&self) -> PathBuf {
        self.bin("valkey-server-8.1")
    }

    /// Checker of metrics and alert rules. From [`tools::ensure_tools`].
    pub(crate) fn promtool(&self) -> PathBuf {
        self.bin("promtool")
    }

    /// Prometheus. From [`tools::ensure_prometheus`].
    pub(crate) fn prometheus(&self) -> PathBuf {
        self.bin("prometheus")
    }

    /// Alertmanager. From [`tools::ensure_tools`].
    pub(crate) fn alertmanager(&self) -> PathBuf {
        self.bin("prometheus-alertmanager")
    }

    /// Lists what is loaded into and attached in the kernel. From [`tools::ensure_tools`].
    pub(crate) fn bpftool(&self) -> PathBuf {
        self.bin("bpftool")
    }

    /// Rules for packets. From [`tools::ensure_tools`].
    pub(crate) fn nft(&self) -> PathBuf {
        self.bin("nft")
    }

    /// What a network interface does by itself. From [`tools::ensure_tools`].
    pub(crate) fn ethtool(&self) -> PathBuf {
        self.bin("ethtool")
    }

    /// Chromium. From [`browser::ensure_chromium`].
    pub(crate) fn chromium(&self) -> PathBuf {
        self.bin("chromium-headless-shell")
    }

    /// The only fonts that Chromium is to see, for `FONTCONFIG_FILE`. From [`browser::ensure_chromium`].
    pub(crate) fn fonts(&self) -> PathBuf {
        self.dir().join("chromium/fonts.conf")
    }

    /// Folder of what drives Chromium, for `NODE_PATH`. From [`tools::ensure_tools`].
    pub(crate) fn browser_path(&self) -> PathBuf {
        self.dir().join("browser-driver/node_modules")
    }

    /// Runs OCI containers. From [`tools::ensure_tools`].
    pub(crate) fn runc(&self) -> PathBuf {
        self.bin("runc")
    }

    /// Asks for pages. From [`tools::ensure_tools`].
    pub(crate) fn curl(&self) -> PathBuf {
        self.bin("curl")
    }

    /// Makes certificates. From [`tools::ensure_tools`].
    pub(crate) fn openssl(&self) -> PathBuf {
        self.bin("openssl")
    }

    /// Helm, which reads charts. From [`tools::ensure_helm`].
    pub(crate) fn helm(&self) -> PathBuf {
        self.bin("helm")
    }

    /// Folder of the check by Kubernetes' schemas, for `PYTHONPATH`. From [`tools::ensure_helm`].
    pub(crate) fn kubernetes_schemas(&self) -> PathBuf {
        self.dir().join("kubernetes-validate")
    }

    /// Terminals without a screen. From [`tools::ensure_tools`].
    pub(crate) fn tmux(&self) -> PathBuf {
        self.bin("tmux")
    }

    /// Node.js. From [`tools::ensure_tools`].
    pub(crate) fn node(&self) -> PathBuf {
        self.bin("node")
    }

    /// Folder of the Node.js clients, for `NODE_PATH`. From [`tools::ensure_tools`].
    pub(crate) fn node_path(&self) -> PathBuf {
        self.dir().join("node-clients/node_modules")
    }

    /// Folder of the Python clients, for `PYTHONPATH`. From [`tools::ensure_tools`].
    pub(crate) fn python_path(&self) -> PathBuf {
        self.dir().join("python")
    }

    /// Clients with go-redis, where there is Go. From [`tools::ensure_tools`].
    pub(crate) fn go_redis_fleet(&self) -> PathBuf {
        self.bin("go-redis-fleet")
    }

    /// Clients with Lettuce, where there is Java. From [`tools::ensure_tools`].
    pub(crate) fn lettuce_fleet(&self) -> PathBuf {
        self.bin("lettuce-fleet")
    }

    /// cargo-deny. From [`tools::ensure_deny`].
    pub(crate) fn cargo_deny(&self) -> PathBuf {
        self.dir().join("deny/bin/cargo-deny")
    }

    /// QEMU 10 for x86-64. From [`machines::ensure_machines`].
    pub(crate) fn qemu(&self) -> PathBuf {
        self.bin("qemu-system-x86_64")
    }

    /// Static busybox, for the guests' userland. From [`machines::ensure_machines`].
    pub(crate) fn busybox(&self) -> PathBuf {
        self.bin("busybox")
    }

    /// Where Debian's systemd is unpacked. From [`machines::ensure_systemd`].
    pub(crate) fn systemd(&self) -> PathBuf {
        self.dir().join("systemd")
    }

    /// Judges units. From [`machines::ensure_systemd`].
    pub(crate) fn systemd_analyze(&self) -> PathBuf {
        self.bin("systemd-analyze")
    }

    /// Hands the lab's paths to a child as `STORMGLASS_LAB_*`; tests read them instead of guessing.
    pub(crate) fn export<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("STORMGLASS_LAB_VALKEY_SERVER", self.valkey_server())
            .env("STORMGLASS_LAB_VALKEY_BENCHMARK", self.valkey_benchmark())
            .env("STORMGLASS_LAB_VALKEY_CLI", self.valkey_cli())
            .env("STORMGLASS_LAB_REDIS_SERVER", self.redis_server())
            .env("STORMGLASS_LAB_VALKEY_8_0", self.valkey_8_0())
            .env("STORMGLASS_LAB_VALKEY_8_1", self.valkey_8_1())
            .env("STORMGLASS_LAB_NFT", self.nft())
            .env("STORMGLASS_LAB_ETHTOOL", self.ethtool())
            .env("STORMGLASS_LAB_RUNC", self.runc())
            .env("STORMGLASS_LAB_CURL", self.curl())
            .env("STORMGLASS_LAB_OPENSSL", self.openssl())
            .env("STORMGLASS_LAB_TMUX", self.tmux())
            .env("STORMGLASS_LAB_NODE", self.node())
            .env("STORMGLASS_LAB_NODE_PATH", self.node_path())
            .env("STORMGLASS_LAB_CHROMIUM", self.chromium())
            .env("STORMGLASS_LAB_FONTS", self.fonts())
            .env("STORMGLASS_LAB_BROWSER_PATH", self.browser_path())
            .env("STORMGLASS_LAB_PROMETHEUS", self.prometheus())
            .env("STORMGLASS_LAB_PROMTOOL", self.promtool())
            .env("STORMGLASS_LAB_ALERTMANAGER", self.alertmanager())
            .env("STORMGLASS_LAB_BPFTOOL", self.bpftool())
            .env("STORMGLASS_LAB_PYTHONPATH", self.python_path())
            .env("STORMGLASS_LAB_GO_REDIS_FLEET", self.go_redis_fleet())
            .env("STORMGLASS_LAB_LETTUCE_FLEET", self.lettuce_fleet())
            .env("STORMGLASS_LAB_AGENT", self.tested_agent())
    }
}
