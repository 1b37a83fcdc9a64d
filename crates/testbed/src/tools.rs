//! The programs that tests run beside the code. `tools/fetch` knows which, and from which version on.

use std::env;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::workspace_root;

/// A tool by its name: the binary that its variable names (`DOCKER_REGISTRY` of `docker-registry`), else
/// what `make tools` has put into `target/tools`. What else is in the PATH may be too old.
///
/// # Errors
/// If there is none; the error names the command that provides it.
pub fn tool(name: &str) -> Result<PathBuf> {
    let variable = name.to_uppercase().replace('-', "_");
    find(&variable, name, "make tools")
}

/// The same for a tool of which there are several: `name` is that of the file in `target/tools`.
pub(crate) fn find(variable: &str, name: &str, command: &str) -> Result<PathBuf> {
    // A variable that is set and empty is none, as it is to make.
    let given = env::var_os(variable).filter(|path| !path.is_empty());
    let path = given.map_or_else(
        || workspace_root().join("target/tools").join(name),
        PathBuf::from,
    );
    ensure!(
        path.is_file(),
        "no {name} at {}; run `{command}`",
        path.display()
    );
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_is_missing_is_named_with_the_command_that_provides_it() {
        let error = tool("no-such-tool").unwrap_err().to_string();
        let expected = "target/tools/no-such-tool; run `make tools`";
        assert!(error.ends_with(expected), "{error}");
    }

    #[test]
    fn the_variable_of_a_tool_comes_first() {
        // PATH is set everywhere, and no file.
        let error = tool("path").unwrap_err().to_string();
        assert!(error.contains(&env::var("PATH").unwrap()), "{error}");
    }
}
