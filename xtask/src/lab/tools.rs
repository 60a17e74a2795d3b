//! Tools.
use super::Lab;
use anyhow::Result;
pub(crate) fn ensure_tools(_lab: &Lab) -> Result<()> {
    Ok(())
}
