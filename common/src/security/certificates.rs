//! Certificates and keys from PEM files: read once, at the start, and checked when they are read.
//!
//! What is checked is whether a file holds what it is for. Whether others accept it (names, dates,
//! who signed it) shows when they are spoken to. Nothing is read again while the process runs.

use std::{fmt, fs::File, io::Read, path::Path};

use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

/// Largest PEM file that is read, in bytes. The bundle of all public authorities has 250 KiB.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// One or more certificates, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificates(Vec<u8>);

/// A private key, as PEM. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(Vec<u8>);

/// What a process shows to others who ask for a certificate: its own, and that it has the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    certificates: Certificates,
    key: PrivateKey,
}

impl Certificates {
    /// Reads a file of certificates.
    ///
    /// # Errors
    /// In plain words, without the path: it can't be read, or it holds no certificates.
    pub fn read(path: &Path) -> Result<Self, String> {
        let certificates = Self(read(path)?);
        match certificates.der()?.as_slice() {
            [] => {
                Err("the file holds no certificate; it must be PEM, with BEGIN CERTIFICATE".into())
            }
            all => {
                let mut known = RootCertStore::empty();
                let mut each = all.iter().map(|one| known.add(one.clone()));
                each.find_map(Result::err).map_or(Ok(certificates), |error| {
                    Err(format!("a certificate in the file can't be used: {error}"))
                })
            }
        }
    }

    /// The certificates as PEM.
    pub fn pem(&self) -> &[u8] {
        &self.0
    }

    fn der(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.0).collect();
        all.map_err(|error| format!("the file is garbled: {error}"))
    }
}

impl PrivateKey {
    /// Reads a file with a private key.
    ///
    /// # Errors
    /// In plain words, without the path: it can't be read, or it holds no key that can be used.
    pub fn read(path: &Path) -> Result<Self, String> {
        let key = Self(read(path)?);
        key.der().map(|_| key)
    }

    fn der(&self) -> Result<PrivateKeyDer<'static>, String> {
        PrivateKeyDer::from_pem_slice(&self.0).map_err(|_| {
            "the file holds no private key that can be read; it must be PEM and not encrypted"
                .into()
        })
    }
}

impl Identity {
    /// Puts a key to its certificates, the process's own first.
    ///
    /// # Errors
    /// In plain words: the key is not the first certificate's.
    pub fn new(certificates: Certificates, key: PrivateKey) -> Result<Self, String> {
        CertifiedKey::from_der(certificates.der()?, key.der()?, &aws_lc_rs::default_provider())
            .map_err(|error| format!("the key does not go with the certificate: {error}"))?;
        Ok(Self { certificates, key })
    }

    /// The certificates as PEM.
    pub fn certificates(&self) -> &[u8] {
        &self.certificates.0
    }

    /// The key as PEM. Whoever calls this sees to it that it reaches no log.
    pub fn expose_key(&self) -> &[u8] {
        &self.key.0
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates({} bytes)", self.0.len())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(super::MASK)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut pem = Vec::new();
    let opened =
        File::open(path).and_then(|file| file.take(MAX_PEM_BYTES + 1).read_to_end(&mut pem));
    match opened {
        Err(error) => Err(format!("the file can't be read: {error}")),
        Ok(size) if size as u64 > MAX_PEM_BYTES => {
            Err(format!("the file is too long; the most is {MAX_PEM_BYTES} bytes"))
        }
        Ok(_) => Ok(pem),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use rcgen::{CertifiedKey as Generated, generate_simple_self_signed};

    use super::*;

    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn with(&self, name: &str, content: &str) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, content).unwrap();
            path
        }
    }

    fn generated() -> (String, String) {
        let Generated { cert, signing_key } = generate_simple_self_signed(["a".into()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_and_its_key_are_an_identity() {
        let (files, (cert, key)) = (Files::new(), generated());
        let certificates = Certificates::read(&files.with("cert", &cert)).unwrap();
        let identity =
            Identity::new(certificates, PrivateKey::read(&files.with("key", &key)).unwrap());
        let identity = identity.unwrap();
        assert_eq!(identity.certificates(), cert.as_bytes());
        assert_eq!(identity.expose_key(), key.as_bytes());
        let printed = format!("{identity:?}");
        assert!(printed.contains("********") && !printed.contains("PRIVATE"), "{printed}");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (files, (cert, _), (_, key)) = (Files::new(), generated(), generated());
        let certificates = Certificates::read(&files.with("cert", &cert)).unwrap();
        let key = PrivateKey::read(&files.with("key", &key)).unwrap();
        let why = Identity::new(certificates, key).unwrap_err();
        assert!(why.contains("does not go with the certificate"), "{why}");
    }

    #[test]
    fn files_that_hold_something_else_are_refused_in_words() {
        let (files, (cert, key)) = (Files::new(), generated());
        let garbled = cert.replace('M', "!");
        let not_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (content, why) in [
            ("", "holds no certificate"),
            (&*key, "holds no certificate"),
            (&*garbled, "is garbled"),
            (not_der, "can't be used"),
            (&*" ".repeat(5 << 20), "too long"),
        ] {
            let told = Certificates::read(&files.with("cert", content)).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
        for content in ["", &*cert] {
            let told = PrivateKey::read(&files.with("key", content)).unwrap_err();
            assert!(told.contains("no private key"), "{told}");
        }
        let told = Certificates::read(&files.0.path().join("missing")).unwrap_err();
        assert!(told.contains("can't be read: No such file"), "{told}");
    }
}
