//! Storms at real servers: every kind is found at its server, by its name, with whoever does it, and soon; the clients of a
//! server beside them live their normal life, and nothing is said of it.
//!
//! One agent watches a server for each scene, so that what is usual is learned once for all. `STORMGLASS_SCENES=churn,leak` plays
//! only those.

mod commands;
mod connections;
mod normal_life;
mod stage;

use anyhow::Result;

use self::stage::{Scene, Stage};

const CONFIG: &str = "
[clients]
survey_seconds = 1

[[workload]]
name = \"cart-api\"
addresses = [\"127.71.0.0/16\"]

[[workload]]
name = \"batch\"
addresses = [\"127.72.0.0/16\"]

[[tenant]]
name = \"login\"
prefixes = [\"session\"]

[[tenant]]
name = \"search\"
prefixes = [\"search\"]

[storms.bandwidth_saturation]
bytes_per_second = 60000000
";

const SCENES: &[Scene] = &[
    Scene {
        name: "churn",
        server: "",
        play: connections::clients_of_a_stopped_server_time_out_and_reopen,
    },
    Scene {
        name: "night",
        server: "",
        play: connections::all_connections_are_replaced_by_night,
    },
    Scene {
        name: "queue",
        server: "tcp-backlog 64\n",
        play: connections::a_server_accepts_nobody,
    },
    Scene {
        name: "maxclients",
        server: "maxclients 40\n",
        play: connections::clients_are_refused,
    },
    Scene {
        name: "leak",
        server: "maxclients 600\n",
        play: connections::connections_leak,
    },
    Scene {
        name: "errors",
        server: "",
        play: commands::commands_fail,
    },
    Scene {
        name: "large",
        server: "",
        play: commands::values_are_large,
    },
    Scene {
        name: "hot",
        server: "",
        play: commands::one_prefix_takes_the_server,
    },
    Scene {
        name: "retry",
        server: "",
        play: commands::clients_ask_again,
    },
    Scene {
        name: "bandwidth",
        server: "",
        play: commands::the_link_is_full,
    },
    Scene {
        name: "normal_life",
        server: "",
        play: normal_life::nothing_is_found,
    },
];

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn every_kind_is_found_at_its_server_within_a_second_and_normal_life_is_silent() -> Result<()> {
    Stage::set(CONFIG)?.play(SCENES)
}
