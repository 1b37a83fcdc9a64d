//! The last step of `make build`: makes the module that Envoy loads of the one that the linker leaves.
//!
//! In this order:
//!
//! 1. [`exports`]: each `guarded_proxy_on_x` of src/guard.rs takes the place of the SDK's `proxy_on_x`, the
//!    exports that the module does not need are dropped, and the code that only they reached.
//! 2. [`uncalled`]: methods of the SDK that are kept though nothing calls them are taken out.
//! 3. [`equal`]: of functions that are equal, one is kept.
//!
//! A module that is finished already is left as it is. Whatever is not as expected is an error, and then
//! the output is not written. Why there is such a step, with a picture: docs/module-link.md.

mod equal;
mod exports;
#[cfg(test)]
mod fixture;
mod uncalled;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, process};

use anyhow::{Context, Result, bail, ensure};
use walrus::ModuleConfig;

const USAGE: &str = "usage: postlink [--keep-names] LINKED.wasm FINISHED.wasm";

fn main() -> ExitCode {
    match run(env::args().skip(1)) {
        Ok(message) => {
            println!("{message}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("postlink: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What has been done, in a line.
fn run(args: impl Iterator<Item = String>) -> Result<String> {
    let (flags, paths): (Vec<_>, Vec<_>) = args.partition(|arg| arg.starts_with("--"));
    ensure!(flags.iter().all(|flag| flag == "--keep-names"), USAGE);
    let [input, output] = paths.as_slice() else {
        bail!(USAGE);
    };
    let before = fs::read(input).with_context(|| format!("cannot read {input}"))?;
    let after = finish(&before, !flags.is_empty()).with_context(|| input.clone())?;
    replace(Path::new(output), &after).with_context(|| format!("cannot write {output}"))?;
    Ok(match before == after {
        true => format!("{output}: {} bytes, was finished already", after.len()),
        false => format!("{output}: {} -> {} bytes", before.len(), after.len()),
    })
}

/// The finished module.
fn finish(linked: &[u8], keep_names: bool) -> Result<Vec<u8>> {
    let mut config = ModuleConfig::new();
    config.generate_name_section(keep_names);
    let mut module = config.parse(linked)?;
    if exports::are_final(&module) {
        return Ok(linked.to_vec());
    }
    exports::replace(&mut module)?;
    uncalled::remove(&mut module)?;
    let finished = equal::merge(module.emit_wasm(), &config)?;
    ensure_smaller(linked.len(), finished.len())?;
    Ok(finished)
}

fn ensure_smaller(before: usize, after: usize) -> Result<()> {
    ensure!(
        after < before,
        "nothing was removed: {before} bytes became {after}"
    );
    Ok(())
}

/// Writes a file beside `path`, then renames it: nobody ever reads half a module, and `path` may
/// be the input. (Cargo hard-links its outputs; writing in place would alter its own copy too.)
fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}", process::id()));
    let partial = PathBuf::from(partial);
    let written = fs::write(&partial, content).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // Best effort: the error worth reporting is the first one.
        let _ = fs::remove_file(&partial);
    }
    Ok(written?)
}

#[cfg(test)]
mod tests {
    use walrus::Module;

    use super::*;

    fn finished() -> Module {
        Module::from_buffer(&finish(&fixture::linked(), false).unwrap()).unwrap()
    }

    #[test]
    fn all_steps_are_taken() {
        let module = finished();
        assert!(exports::are_final(&module));
        let imports: Vec<_> = module.imports.iter().map(|import| &import.name).collect();
        assert_eq!(imports, ["proxy_log", "proxy_get_status"]);
        // The callbacks without a guard, the guards, the trap, and `_initialize`.
        assert_eq!(module.funcs.iter_local().count(), 4);
    }

    #[test]
    fn keeps_the_sections_that_tools_read() {
        let module = finished();
        let features: Vec<_> = module.customs.iter().map(|(_, s)| s.name()).collect();
        assert_eq!(features, ["target_features"]);
        let languages = &module.producers.fields()[0];
        assert_eq!(languages.name(), "language");
        assert_eq!(languages.values()[0].name(), "Rust");
    }

    #[test]
    fn function_names_are_kept_only_on_request() {
        let has_names = |keep_names| {
            let finished = finish(&fixture::linked(), keep_names).unwrap();
            let module = Module::from_buffer(&finished).unwrap();
            module
                .funcs
                .iter()
                .any(|function| function.name.as_deref() == Some("start"))
        };
        assert!(has_names(true));
        assert!(!has_names(false));
    }

    #[test]
    fn a_finished_module_stays_as_it_is() {
        for keep_names in [false, true] {
            let once = finish(&fixture::linked(), keep_names).unwrap();
            assert_eq!(finish(&once, keep_names).unwrap(), once);
        }
    }

    /// The linker leaves no names where `strip` is set.
    #[test]
    fn a_module_without_names_is_refused() {
        let stripped = fixture::wat().replace(fixture::METHOD, "method");
        let error = finish(&wat::parse_str(stripped).unwrap(), false).unwrap_err();
        assert!(
            error.to_string().contains("no method of the SDK"),
            "{error}"
        );
    }

    #[test]
    fn a_module_that_gets_no_smaller_is_refused() {
        assert!(ensure_smaller(100, 99).is_ok());
        for after in [100, 101] {
            let error = ensure_smaller(100, after).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("nothing was removed: 100 bytes became {after}")
            );
        }
    }

    #[test]
    fn output_may_be_the_input_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("module.wasm");
        fs::write(&file, fixture::linked()).unwrap();
        let path = file.to_str().unwrap();
        let run = || run([path, path].map(str::to_owned).into_iter()).unwrap();
        assert!(run().contains(" -> "));
        let finished = finish(&fixture::linked(), false).unwrap();
        assert_eq!(fs::read(&file).unwrap(), finished);
        assert!(run().ends_with("was finished already"));
        assert_eq!(fs::read(&file).unwrap(), finished);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    /// Cargo's own copy is the input of the next build.
    #[test]
    fn a_hard_link_to_the_output_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let [linked, output] = ["linked", "output"].map(|name| directory.path().join(name));
        fs::write(&linked, fixture::linked()).unwrap();
        fs::hard_link(&linked, &output).unwrap();
        let arguments = [&linked, &output].map(|path| path.to_str().unwrap().to_owned());
        for _ in 0..2 {
            run(arguments.clone().into_iter()).unwrap();
            assert_eq!(fs::read(&linked).unwrap(), fixture::linked());
            assert!(fs::read(&output).unwrap().len() < fixture::linked().len());
        }
    }

    #[test]
    fn a_refused_module_leaves_the_output_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("module.wasm");
        fs::write(&file, b"not wasm").unwrap();
        let argument = file.to_str().unwrap().to_owned();
        assert!(run([argument.clone(), argument].into_iter()).is_err());
        assert_eq!(fs::read(&file).unwrap(), b"not wasm");
    }

    #[test]
    fn bad_usage_is_refused() {
        for args in [&["one.wasm"][..], &["--fast", "a.wasm", "b.wasm"], &[]] {
            let error = run(args.iter().map(|&arg| arg.into())).unwrap_err();
            assert_eq!(error.to_string(), USAGE);
        }
    }
}
