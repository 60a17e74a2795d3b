//! Storms at real servers: every kind is found at its server, by its name, with whoever does it, and soon, and somebody is told; the
//! clients of a server beside them live their normal life, and nothing is said of it.
//!
//! One agent watches a server for each scene, so that what is usual is learned once for all. What is played can be chosen:
//!
//! | variable | what |
//! |---|---|
//! | `STORMGLASS_SCENES` | kinds, or `normal_life`, with commas between them; `KIND_elsewhere`, which has server and clients in network namespaces of their own; else all |
//! | `STORMGLASS_SEED` | sizes of the storms; 0, if it is not set: those that were reported |
//! | `STORMGLASS_LIFE_SECONDS` | how long normal life is, at least |
//! | `STORMGLASS_OUTCOMES` | file that gets a line of JSON for each scene, whatever came of it |

mod evidence;
mod outcome;
mod stage;

use anyhow::Result;
use stormglass_load::storms::CONFIG;

use self::stage::Stage;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn every_kind_is_found_at_its_server_within_a_second_and_normal_life_is_silent() -> Result<()> {
    Stage::set(CONFIG)?.play()
}
