//! What was measured, kept so that a run that was interrupted can go on.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{Cast, Place, Scene};
use crate::bench::{Round, median};

/// Everything a run has measured so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Where and what.
    pub place: Place,
    /// Scene by scene.
    pub scenes: Vec<SceneResult>,
    /// Resident bytes of a stored entry, by system.
    pub entry_bytes: Vec<(String, f64)>,
    /// Resident bytes of a node that holds nothing.
    pub empty_node_bytes: Option<u64>,
}

/// What a scene came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SceneResult {
    /// Which.
    pub id: String,
    /// Each system's rounds.
    pub systems: Vec<SystemResult>,
    /// What else there is to say.
    pub notes: Vec<String>,
}

/// The rounds of a system in a scene.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemResult {
    /// Its name.
    pub name: String,
    /// Those that count; none if it can't do what the scene asks for.
    pub rounds: Vec<Round>,
}

impl Results {
    /// Nothing, as yet.
    pub fn new(place: Place) -> Self {
        Self { place, scenes: Vec::new(), entry_bytes: Vec::new(), empty_node_bytes: None }
    }

    /// What an interrupted run of the same code on the same machine has left, or nothing.
    pub fn resume(place: Place, file: &Path) -> Self {
        let kept = fs::read(file).ok().and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        kept.filter(|kept| kept.place == place).unwrap_or_else(|| Self::new(place))
    }

    /// Reads what a run has left.
    ///
    /// # Errors
    /// When it can't be read or is not of this form.
    pub fn read(file: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(file)?)?)
    }

    /// Writes it down.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        if let Some(dir) = file.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::write(file, serde_json::to_vec_pretty(self)?)
    }

    /// The result of a scene, if it was measured.
    pub fn scene(&self, id: &str) -> Option<&SceneResult> {
        self.scenes.iter().find(|scene| scene.id == id)
    }

    /// Whether there is nothing left to measure.
    pub fn is_complete(&self, scenes: &[Scene]) -> bool {
        !self.entry_bytes.is_empty() && scenes.iter().all(|scene| self.scene(scene.id).is_some())
    }

    /// The medians of a system in a scene.
    pub(super) fn middle(&self, scene: &str, cast: Cast) -> Option<Round> {
        self.scene(scene)?.system(&cast.to_string())?.middle()
    }

    /// Its CPU time a request, in microseconds.
    pub(super) fn total_us(&self, scene: &str, cast: Cast) -> Option<f64> {
        Some(self.middle(scene, cast)?.total_us())
    }
}

impl SceneResult {
    /// A system's result by its name.
    pub fn system(&self, name: &str) -> Option<&SystemResult> {
        self.systems.iter().find(|system| system.name == name)
    }
}

impl SystemResult {
    /// The medians of its rounds.
    pub fn middle(&self) -> Option<Round> {
        median(&self.rounds)
    }

    /// The least and the most CPU time a request of its rounds, in microseconds.
    pub(super) fn spread_us(&self) -> (f64, f64) {
        let totals = self.rounds.iter().map(Round::total_us);
        totals.fold((f64::INFINITY, 0.0), |(least, most), us| (least.min(us), most.max(us)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::peers::scenes;

    /// A round with a total of that many microseconds.
    pub(crate) fn round(total_us: f64) -> Round {
        Round {
            rate: (1e6 / total_us).round(),
            p50: Duration::from_micros(100),
            p99: Duration::from_secs_f64(total_us * 1e-6 * 50.0),
            front_us: total_us * 0.75,
            back_us: total_us * 0.25,
            front_bytes: 10 << 20,
            back_bytes: 20 << 20,
            errors: 0,
        }
    }

    pub(crate) fn place() -> Place {
        Place::of_a_test()
    }

    /// Made-up results of all scenes, in which each system costs what `us` says, in three rounds.
    pub(crate) fn results(us: impl Fn(&str, Cast) -> f64) -> Results {
        let mut results = Results::new(place());
        for scene in scenes(Duration::from_secs(8)) {
            let system = |&cast: &Cast| {
                let middle = us(scene.id, cast);
                let rounds = [middle * 0.9, middle, middle * 1.1].map(round).to_vec();
                SystemResult { name: cast.to_string(), rounds }
            };
            let systems = scene.cast.iter().map(system).collect();
            results.scenes.push(SceneResult { id: scene.id.into(), systems, notes: Vec::new() });
        }
        results.entry_bytes = vec![("Ringway".into(), 1_400.0), ("redis".into(), 1_385.0)];
        results.empty_node_bytes = Some(9_000_000);
        results
    }

    #[test]
    fn results_survive_their_file_and_belong_to_their_code() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("below/results.json");
        let results = results(|_, _| 10.0);
        results.write(&file).unwrap();
        assert_eq!(Results::read(&file).unwrap(), results);
        assert_eq!(Results::resume(place(), &file), results);
        let mut other = place();
        other.machine.commit = "another".into();
        assert!(Results::resume(other, &file).scenes.is_empty());
        assert!(Results::resume(place(), &dir.path().join("none")).scenes.is_empty());
    }

    #[test]
    fn all_scenes_and_the_memory_make_it_complete() {
        let scenes = scenes(Duration::from_secs(8));
        let mut results = results(|_, _| 10.0);
        assert!(results.is_complete(&scenes));
        results.entry_bytes.clear();
        assert!(!results.is_complete(&scenes));
    }

    #[test]
    fn medians_are_found_by_scene_and_system() {
        let results = results(|_, cast| if cast == Cast::Bare { 7.0 } else { 20.0 });
        assert_eq!(results.total_us("get-c100", Cast::Bare), Some(7.0));
        assert_eq!(results.total_us("put", Cast::Bare), None);
        assert_eq!(results.total_us("nothing", Cast::Bare), None);
        let system = results.scene("put").unwrap().system("webdis → redis").unwrap();
        assert_eq!(system.spread_us(), (18.0, 22.0));
    }
}
