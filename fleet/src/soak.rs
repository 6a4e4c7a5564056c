//! A soak: an hour of random faults under load, one after another, each healed before the next.
//!
//! What happens is decided by a seed alone ([`schedule`]), so a run can be repeated; how the fleet
//! takes it is written to a history that the checker judges. Beside that the processes are weighed
//! from outside ([`weight`]): what an hour leaves behind shows there.

pub mod run;
pub mod schedule;
pub mod stage;
pub mod traffic;
pub mod weight;
