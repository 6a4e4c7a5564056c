//! How a process and its etcd know each other: names, passwords and certificates.
//!
//! Without any of it etcd is spoken to in plain and by nobody in particular.

use crate::security::{Certificates, Identity, Secret};

/// What a process shows to etcd, and by what it knows etcd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EtcdAccess {
    /// The user of an etcd with authentication. Where authentication is switched off it is not
    /// used, so that it can be configured first and switched on then.
    pub user: Option<EtcdUser>,
    /// The authorities that may have signed etcd's certificate; `None` for the system's. Used for
    /// `https` endpoints.
    pub authorities: Option<Certificates>,
    /// What etcd is shown when it asks for a certificate. Used for `https` endpoints.
    pub identity: Option<Identity>,
}

/// A user of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdUser {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: Secret,
}
