//! The peer harness: Ringway beside those who do the same job, in the same run.
//!
//! Every [`Scene`] is one workload and the systems that take it on. They are started and filled,
//! then measured in turns, A B C A B C, so that what the machine does meanwhile hits all alike. The
//! [`Results`] are judged by the [goals](judge) and become tables and plots. Requests per second
//! move with the machine; what counts first is CPU time per request.

mod goals;
mod page;
mod plot;
mod results;
mod run;
mod scenes;
mod versions;

pub use goals::{Judged, judge};
pub use page::{PageError, write_documents};
pub use results::{Results, SceneResult, SystemResult};
pub use run::{PeersError, measure_entries, measure_scene};
pub use scenes::{Cast, Scene, scenes};
pub use versions::{PEERS, Place, PlaceError};
