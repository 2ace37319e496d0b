//! One definition per key, for the command line, the configuration file and its reload.

/// Defines a struct of keys, each an `Option`: a value, or not given.
///
/// Serde and clap see an ordinary struct. A key's attributes define its form in the file and as a flag. The word before
/// its name defines the effect of a reload: a `live` key takes effect at once, a `restart` key needs a restart of the
/// host. `= VALUE` after the type is the default; writing the default explicitly is not a change.
///
/// The struct gets three functions over all keys: precedence, paths, and changes that need a restart.
macro_rules! keys {
    (
        $(#[$meta:meta])*
        $vis:vis struct $Keys:ident {
            $( $(#[$attribute:meta])* $reload:ident $key:ident: $Type:ty $(= $default:expr)?, )*
        }
    ) => {
        $(#[$meta])*
        $vis struct $Keys {
            $( $(#[$attribute])* pub $key: $Type, )*
        }

        impl $Keys {
            /// Each key as given here, else as in `other`.
            pub fn or(self, other: $Keys) -> $Keys {
                $Keys { $( $key: self.$key.or(other.$key), )* }
            }

            /// Makes every path relative to `dir`.
            pub fn resolve_paths(&mut self, dir: &std::path::Path) {
                $(
                    let value: &mut dyn std::any::Any = &mut self.$key;
                    if let Some(Some(path)) = value.downcast_mut::<Option<std::path::PathBuf>>() {
                        *path = dir.join(&path);
                    }
                )*
            }

            /// The keys that differ from `before` and need a restart, as they are written in the file.
            pub fn restart_keys(&self, before: &$Keys) -> Vec<String> {
                let mut changed = Vec::new();
                $(
                    let default: $Type = None $(.or(Some($default)))?;
                    let (now, then) = (self.$key.as_ref().or(default.as_ref()), before.$key.as_ref().or(default.as_ref()));
                    if keys!(@needs $reload) && now != then {
                        changed.push(stringify!($key).replace('_', "-"));
                    }
                )*
                changed
            }
        }
    };
    (@needs live) => { false };
    (@needs restart) => { true };
}

pub(super) use keys;
