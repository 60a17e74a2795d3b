//! Servers.
use super::Lab;
use anyhow::Result;
pub(crate) fn ensure_servers(_lab: &Lab) -> Result<()> {
    Ok(())
}
