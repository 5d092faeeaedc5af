//! Finds and loads drivers. A library is loaded once per process and stays loaded.

use std::{
    collections::BTreeMap,
    env::{
        self,
        consts::{DLL_PREFIX, DLL_SUFFIX},
    },
    path::{Path, PathBuf},
    sync::Mutex,
};

use adbc_core::options::AdbcVersion;
use adbc_driver_manager::ManagedDriver;
use tideway_core::{Error, Result};

static LOADED: Mutex<BTreeMap<&'static str, ManagedDriver>> = Mutex::new(BTreeMap::new());

/// A shared library that holds a driver.
pub struct Library {
    /// What it drives, for people.
    pub system: &'static str,
    /// Its file name without what the platform puts before and behind it (`duckdb` for
    /// `libduckdb.so`); also the folder's name among the downloaded tools.
    pub stem: &'static str,
    pub entry_point: &'static [u8],
    /// Environment variable that names the file; no other place counts where it is set.
    pub variable: &'static str,
    /// How to get the library, in one sentence.
    pub remedy: &'static str,
}

impl Library {
    /// The driver, loaded if it is not yet. Blocks while it is read from disk.
    ///
    /// # Errors
    /// `Config` when the library is nowhere, naming each place, or is no such driver.
    pub fn load(&self, data_dir: Option<&Path>) -> Result<ManagedDriver> {
        let mut loaded = LOADED.lock().unwrap_or_else(|broken| broken.into_inner());
        if let Some(driver) = loaded.get(self.stem) {
            return Ok(driver.clone());
        }
        let driver = self.find(data_dir)?;
        loaded.insert(self.stem, driver.clone());
        Ok(driver)
    }

    fn find(&self, data_dir: Option<&Path>) -> Result<ManagedDriver> {
        let mut seen = Vec::new();
        match env::var_os(self.variable).filter(|value| !value.is_empty()) {
            Some(named) if Path::new(&named).is_file() => return self.open(Path::new(&named)),
            Some(named) => {
                let named = Path::new(&named).display();
                return Err(self.missing(&[format!("{} ({named})", self.variable)]));
            }
            None => seen.push(format!("{} (not set)", self.variable)),
        }
        for place in self.places(data_dir) {
            if place.is_file() {
                return self.open(&place);
            }
            seen.push(place.display().to_string());
        }
        // A bare name is looked for where the system's loader looks.
        if let Ok(driver) = self.open(Path::new(&self.file_name())) {
            return Ok(driver);
        }
        seen.push("the system's library path".to_owned());
        Err(self.missing(&seen))
    }

    fn file_name(&self) -> String {
        format!("{DLL_PREFIX}{}{DLL_SUFFIX}", self.stem)
    }

    /// Files that may be the library, likeliest first.
    fn places(&self, data_dir: Option<&Path>) -> Vec<PathBuf> {
        let beside = env::current_exe()
            .ok()
            .and_then(|binary| binary.parent().map(Path::to_owned));
        let cache = env::var_os("XDG_CACHE_HOME")
            .filter(|folder| !folder.is_empty())
            .map(PathBuf::from)
            .or_else(|| env::home_dir().map(|home| home.join(".cache")));
        [
            beside,
            data_dir.map(|folder| folder.join("lib")),
            cache.map(|folder| folder.join("tideway/tools").join(self.stem)),
        ]
        .into_iter()
        .flatten()
        .map(|folder| folder.join(self.file_name()))
        .collect()
    }

    fn open(&self, path: &Path) -> Result<ManagedDriver> {
        ManagedDriver::load_dynamic_from_filename(path, Some(self.entry_point), AdbcVersion::V110)
            .map_err(|error| {
                Error::config(format!(
                    "{} cannot be loaded as the {} library: {}",
                    path.display(),
                    self.system,
                    error.message
                ))
                .hint(self.remedy)
            })
    }

    fn missing(&self, seen: &[String]) -> Error {
        Error::config(format!(
            "the {} library {} is not there; looked for at {}",
            self.system,
            self.file_name(),
            seen.join(", ")
        ))
        .hint(self.remedy)
    }
}
