//! A real etcd process on free ports, with its data in a temporary directory.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use etcd_client::Client;
use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::backend::DEADLINE;

/// How often a start is tried when others take the ports first.
const MAX_STARTS: usize = 5;
/// How often it is looked whether etcd serves.
const POLL: Duration = Duration::from_millis(20);

/// An etcd that is killed when it is dropped.
pub(crate) struct EtcdServer {
    process: Option<Child>,
    data: TempDir,
    extra: Vec<String>,
    pub(crate) ports: Ports,
}

#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) client: u16,
    peer: u16,
}

impl Ports {
    /// Two ports that nobody listens on. Both are held until both are known.
    pub(crate) fn free() -> Self {
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let [client, peer] = [bind(), bind()].map(|held| held.local_addr().unwrap().port());
        Self { client, peer }
    }
}

impl EtcdServer {
    /// A new etcd that serves.
    pub(crate) async fn start() -> Self {
        for _ in 0..MAX_STARTS {
            if let Some(server) = Self::start_on(Ports::free()).await {
                return server;
            }
        }
        panic!("etcd did not start {MAX_STARTS} times in a row");
    }

    /// A new etcd on these ports; `None` when it ends at once.
    pub(crate) async fn start_on(ports: Ports) -> Option<Self> {
        let data = tempfile::tempdir().unwrap();
        let mut server = Self { process: None, data, extra: Vec::new(), ports };
        server.resume().await.then_some(server)
    }

    /// New etcds that are one cluster.
    pub(crate) async fn start_cluster() -> [Self; 3] {
        for _ in 0..MAX_STARTS {
            let ports = [Ports::free(), Ports::free(), Ports::free()];
            let [a, b, c] = ports.map(|ports| format!("http://127.0.0.1:{}", ports.peer));
            let members = format!("a={a},b={b},c={c}");
            let mut servers = std::array::from_fn(|n| {
                let name = &"abc"[n..=n];
                let extra = ["--name", name, "--initial-cluster", &members];
                // On a busy machine a leader must not be given up at once.
                let patient = ["--heartbeat-interval", "100", "--election-timeout", "1000"];
                let extra = extra.into_iter().chain(patient).map(str::to_owned).collect();
                Self { process: None, data: tempfile::tempdir().unwrap(), extra, ports: ports[n] }
            });
            // None of them serves before two of them do.
            let started = join_all(servers.iter_mut().map(Self::resume)).await;
            if started.into_iter().all(|serves| serves) {
                return servers;
            }
        }
        panic!("a cluster of etcd did not start {MAX_STARTS} times in a row");
    }

    /// Stops it where it is, as a machine that swaps or a debugger does.
    pub(crate) fn suspend(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn wake(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().unwrap();
        kill_process(Pid::from_child(process), signal).unwrap();
    }

    /// Starts it again with more arguments.
    pub(crate) async fn resume_with(&mut self, arguments: &[&str]) {
        self.extra = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        assert!(self.resume().await);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.client).into()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect([self.address().to_string()], None).await.unwrap()
    }

    /// Kills it, as a crash would.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it again with the data it has. Returns whether it serves.
    pub(crate) async fn resume(&mut self) -> bool {
        self.stop();
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let (client, peer) = (url(self.ports.client), url(self.ports.peer));
        let mut command = Command::new(binary());
        command
            .args(["--name", "test", "--logger", "zap", "--log-level", "error"])
            // A cluster of one need not wait long for other candidates.
            .args(["--heartbeat-interval", "20", "--election-timeout", "200"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}")])
            .arg("--data-dir")
            .arg(self.data.path().join("etcd"))
            .args(&self.extra)
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        self.serves().await
    }

    async fn serves(&mut self) -> bool {
        let began = Instant::now();
        while began.elapsed() < DEADLINE {
            if self.process.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            if let Ok(mut client) = Client::connect([self.address().to_string()], None).await
                && client.get("/", None).await.is_ok()
            {
                return true;
            }
            sleep(POLL).await;
        }
        panic!("etcd does not serve after {DEADLINE:?}");
    }

    /// Copies the data aside. etcd must be stopped.
    pub(crate) fn back_up(&self) {
        assert!(self.process.is_none());
        copy(&self.data.path().join("etcd"), &self.data.path().join("backup"));
    }

    /// Puts back what was copied aside. etcd must be stopped.
    pub(crate) fn restore(&self) {
        self.wipe();
        copy(&self.data.path().join("backup"), &self.data.path().join("etcd"));
    }

    /// Forgets everything. etcd must be stopped.
    pub(crate) fn wipe(&self) {
        assert!(self.process.is_none());
        std::fs::remove_dir_all(self.data.path().join("etcd")).unwrap();
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, to) = {
            let e = entry.unwrap();
            (e.path(), to.join(e.file_name()))
        };
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

/// The etcd to run: from `$RINGWAY_TOOLS`, from what `make tools` fetched, or from the PATH.
fn binary() -> PathBuf {
    let tools =
        std::env::var_os("RINGWAY_TOOLS").map(|tools| PathBuf::from(tools).join("bin/etcd"));
    let ancestors = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let fetched = ancestors.map(|dir| dir.join("target/tools/usr/bin/etcd"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("etcd"));
    let mut candidates = tools.into_iter().chain(fetched).chain(on_path);
    candidates
        .find(|candidate| candidate.is_file())
        .expect("no etcd found: run \"make tools\", or install Debian's etcd-server")
}
