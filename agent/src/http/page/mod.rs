//! The pages for people: what the agent knows, for somebody with a browser, or with a phone at night.
//!
//! | file | what it knows |
//! |---|---|
//! | `html` | markup in which nothing but this source's own words is markup |
//! | `frame` | what surrounds every page: head, navigation, policy, the files that it refers to |
//! | `table` | tables that become cards on a narrow screen |
//! | `numbers` | numbers, bytes and times as people read them |
//! | `status` | `/` |
//! | `incidents` | `/incidents` and `/incidents/ID` |
//! | `course` | what of an incident is drawn |
//! | `plot` | lines over time as SVG |
//! | `agent` | of `/`: how the agent itself is |
//!
//! They show what `/api/v1` shows, from the same report and the same incident. docs/adr/0028-pages.md has the reasons.

// First: the others write by its macro.
#[macro_use]
mod html;

mod agent;
mod course;
mod frame;
pub(super) mod incidents;
mod numbers;
mod plot;
mod status;
mod table;

pub(super) use self::frame::{Page, asset};
pub(super) use self::status::{status, without_report};
