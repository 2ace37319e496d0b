//! The user's rustflags, without those for native code.
//!
//! Many users set flags for the linker or CPU of their machine (`-fuse-ld=mold`, `target-cpu=native`) for all targets.
//! rustc links wasm with its own `rust-lld`, which refuses them.

use std::path::Path;

use super::TARGET;

/// The variable that cargo reads first. It separates flags by 0x1f.
pub const VARIABLE: &str = "CARGO_ENCODED_RUSTFLAGS";

/// The flags for the build, and the flags that it leaves out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rustflags {
    pub kept: Vec<String>,
    /// In the form of the command line.
    pub left_out: Vec<String>,
}

/// The flags that cargo would use in `dir`, from environment variables and configuration files.
pub fn configured(dir: &Path) -> Option<Vec<String>> {
    // Cargo itself reports an unreadable configuration.
    let config = cargo_config2::Config::load_with_cwd(dir).ok()?;
    config.rustflags(TARGET).ok()?.map(|flags| flags.flags)
}

impl Rustflags {
    /// Separates flags for wasm from flags for native code.
    pub fn sort(flags: Vec<String>) -> Rustflags {
        let mut sorted = Rustflags::default();
        let mut flags = flags.into_iter().peekable();
        while let Some(flag) = flags.next() {
            // `-C linker=x` may be two arguments or one.
            let (words, option) = match flag.as_str() {
                "-C" | "--codegen" => match flags.next() {
                    Some(option) => (vec![flag, option.clone()], option),
                    None => (vec![flag], String::new()),
                },
                _ => {
                    let option = flag.strip_prefix("-C").or_else(|| flag.strip_prefix("--codegen="));
                    let option = option.unwrap_or_default().to_owned();
                    (vec![flag], option)
                }
            };
            if is_for_native_code(&option) {
                sorted.left_out.push(words.join(" "));
            } else {
                sorted.kept.extend(words);
            }
        }
        sorted
    }

    /// The value of [`VARIABLE`].
    pub fn encoded(&self) -> String {
        self.kept.join("\x1f")
    }
}

/// Whether a codegen option is only for native code.
fn is_for_native_code(option: &str) -> bool {
    let (key, value) = option.split_once('=').unwrap_or((option, ""));
    match key {
        "linker" | "linker-flavor" | "link-self-contained" | "linker-features" => true,
        "link-arg" => is_for_a_driver(value),
        "link-args" => value.split(' ').any(is_for_a_driver),
        "target-cpu" => !WASM_CPUS.contains(&value),
        _ => false,
    }
}

/// The CPUs of LLVM's wasm32 target.
const WASM_CPUS: [&str; 4] = ["generic", "mvp", "bleeding-edge", "lime1"];

/// Whether a linker argument is for a driver such as `cc`, and not for wasm-ld.
fn is_for_a_driver(argument: &str) -> bool {
    ["-fuse-ld", "-Wl,", "-B", "-rdynamic", "-pthread", "-static", "-no-pie", "-pie", "-march", "-mcpu", "--ld-path"]
        .iter()
        .any(|prefix| argument.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(flags: &str) -> (String, String) {
        let sorted = Rustflags::sort(flags.split_whitespace().map(str::to_owned).collect());
        (sorted.kept.join(" "), sorted.left_out.join(" "))
    }

    #[test]
    fn flags_for_native_linkers_and_cpus_are_left_out() {
        for (flags, kept, left_out) in [
            ("", "", ""),
            ("-C link-arg=-fuse-ld=mold", "", "-C link-arg=-fuse-ld=mold"),
            ("-Clink-arg=-fuse-ld=lld --cfg tokio_unstable", "--cfg tokio_unstable", "-Clink-arg=-fuse-ld=lld"),
            ("-C linker=clang -Clinker-flavor=gcc", "", "-C linker=clang -Clinker-flavor=gcc"),
            ("--codegen=linker=clang -D warnings", "-D warnings", "--codegen=linker=clang"),
            ("-C target-cpu=native", "", "-C target-cpu=native"),
            ("-C target-cpu=mvp", "-C target-cpu=mvp", ""),
            ("-Clink-args=-Wl,-z,now -C", "-C", "-Clink-args=-Wl,-z,now"),
            ("-C link-arg=--max-memory=65536 -C opt-level=1", "-C link-arg=--max-memory=65536 -C opt-level=1", ""),
        ] {
            assert_eq!(sorted(flags), (kept.to_owned(), left_out.to_owned()), "{flags}");
        }
    }
}
