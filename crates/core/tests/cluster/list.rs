//! A replicated list of lines in both ways a mode can work: executed on apply, or executed ahead by the
//! leader and fenced by a predecessor. It asserts what `core` owes it.

use crate::list_snapshot::{Flaws, Sink, Source};
use bytes::Bytes;
use sqlrep_core::{
    Applied, CheckpointStep, Closing, Committed, EntryEnd, EntryId, Epoch, EpochEnd, EpochId,
    Interactive, Interrupt, LogIndex, MachineError, Mismatch, Retry, Sealed, StateMachine, Step,
    Stepped, Which, WriteError,
};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How commands come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// The log carries requests, every node executes them (as statement mode).
    Late,
    /// The leader executes, the log carries results and names their predecessor (as page mode).
    Ahead,
}

/// Names an accepted set: term, epoch, sequence.
pub(crate) type Tail = (u64, u64, u64);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) lines: Vec<String>,
    pub(crate) tail: Tail,
    pub(crate) end: EntryEnd,
}

#[derive(Default)]
struct Inner {
    applied: State,
    /// Lines prepared, not finished.
    next: Option<(Vec<String>, Tail)>,
    /// Lines of the parts of a set that isn't complete.
    staged: (Tail, Vec<String>),
    durable: State,
    live: Option<EpochId>,
    /// By index, since the start or the last install.
    checksums: BTreeMap<u64, u64>,
    /// What `distrust` was told of this state.
    distrusted: Option<String>,
}

/// The state machine.
pub(crate) struct List {
    style: Style,
    inner: Arc<Mutex<Inner>>,
    /// Calls of prepare that fail from now on, and whether they may be tried again.
    pub(crate) failing: Mutex<Option<(u64, Retry)>>,
    /// An entry waits while there are so many lines, and is tried again.
    pub(crate) lines_max: AtomicU64,
    pub(crate) epochs: AtomicU64,
    pub(crate) checkpoints: AtomicBool,
    /// Steps of a checkpoint before its last one, and the patience between them.
    pub(crate) slices: Mutex<(u64, Duration)>,
    /// Steps made.
    pub(crate) steps: AtomicU64,
    /// What checkpoints fail with.
    pub(crate) checkpoint_fails: Mutex<Option<Retry>>,
    /// Snapshots taken over.
    pub(crate) installs: AtomicU64,
    /// Told at the next applied entry.
    pub(crate) mismatch: Mutex<Option<Mismatch>>,
    /// Whether what is durable reads back wrong.
    pub(crate) damaged: AtomicBool,
    /// What goes wrong with snapshots that come in.
    pub(crate) flaws: Arc<Flaws>,
    pub(crate) engine: AtomicU64,
    /// Lines in one command of an epoch; more are split.
    pub(crate) part_lines_max: AtomicU64,
    pub(crate) parts: Arc<Parts>,
}

/// Parts before the last ones of their sets.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) made: AtomicU64,
    pub(crate) applied: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl List {
    pub(crate) fn new(style: Style) -> Self {
        Self::on(style, State::default())
    }

    /// A restarted one: only what was durable is there.
    pub(crate) fn on(style: Style, durable: State) -> Self {
        let inner = Inner {
            applied: durable.clone(),
            durable,
            ..Inner::default()
        };
        Self {
            style,
            inner: Arc::new(Mutex::new(inner)),
            failing: Mutex::new(None),
            lines_max: AtomicU64::new(u64::MAX),
            epochs: AtomicU64::new(0),
            checkpoints: AtomicBool::new(true),
            slices: Mutex::default(),
            steps: AtomicU64::new(0),
            checkpoint_fails: Mutex::new(None),
            installs: AtomicU64::new(0),
            mismatch: Mutex::new(None),
            damaged: AtomicBool::new(false),
            flaws: Arc::default(),
            engine: AtomicU64::new(0),
            part_lines_max: AtomicU64::new(u64::MAX),
            parts: Arc::default(),
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        lock(&self.inner).applied.lines.clone()
    }

    /// Changes a line behind everybody's back.
    pub(crate) fn corrupt(&self) {
        let mut inner = lock(&self.inner);
        inner.applied.lines[0].push('!');
        inner.durable.lines = inner.applied.lines.clone();
        let Some(end) = inner.applied.end.id else {
            return;
        };
        let checksum = checksum(&inner.applied.lines);
        inner.checksums.insert(end.index.0, checksum);
    }

    /// A restarted one that was told not to trust its state.
    pub(crate) fn distrusting(self, why: &str) -> Self {
        lock(&self.inner).distrusted = Some(why.to_owned());
        self
    }

    pub(crate) fn durable_state(&self) -> State {
        lock(&self.inner).durable.clone()
    }
}

fn checksum(lines: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    lines.hash(&mut hasher);
    hasher.finish()
}

pub(crate) fn error(what: &str, retry: Retry) -> MachineError {
    MachineError::new(io::Error::other(what.to_owned()), retry)
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Adds a line; the reply is the number of lines.
    Push(String),
    /// The lines, as the leader's writer sees them.
    Show,
}

/// The leader's side.
pub(crate) struct ListEpoch {
    style: Style,
    id: EpochId,
    inner: Arc<Mutex<Inner>>,
    ahead: Vec<String>,
    tail: Tail,
    sealed: u64,
    waiting: Vec<String>,
    stopped: Arc<AtomicBool>,
    part_lines_max: usize,
    parts: Arc<Parts>,
    /// Of the set that is being sealed.
    left: VecDeque<String>,
    /// Parts made before that one.
    made_before: u64,
    /// Lines of the transaction that is open.
    own: Option<Vec<String>>,
}

impl ListEpoch {
    fn part(&mut self) -> Option<Sealed> {
        let body = self.left.pop_front()?;
        let parts_left = u32::try_from(self.left.len()).unwrap();
        let body = format!("{parts_left} {body}").into();
        let made = &self.parts.made;
        let made = made.fetch_add(u64::from(parts_left > 0), Ordering::AcqRel);
        let applied = self.parts.applied.load(Ordering::Acquire);
        let ahead = made.saturating_sub(applied.max(self.made_before));
        assert!(ahead <= PARTS_AHEAD_MAX, "{ahead} parts are under way");
        Some(Sealed { body, parts_left })
    }
}

/// Parts of one set that wait for their verdict, at most.
const PARTS_AHEAD_MAX: u64 = 3;

impl Epoch for ListEpoch {
    type Request = Ask;
    type Reply = String;

    fn run(&mut self, request: Ask) -> Step<String> {
        assert_eq!(self.own, None, "nothing runs beside a transaction");
        if self.stopped.load(Ordering::Acquire) {
            return Step::Refused(WriteError::NotDone);
        }
        match request {
            Ask::Push(line) if line.contains('\n') => Step::Refused(WriteError::Unsupported {
                what: "a line has no line break".to_owned(),
            }),
            Ask::Push(line) => {
                self.waiting.push(line.clone());
                self.ahead.push(line);
                match self.style {
                    Style::Late => Step::Encoded,
                    Style::Ahead => Step::Executed {
                        reply: self.ahead.len().to_string(),
                        key_reply: Some(self.ahead.len().to_string().into()),
                    },
                }
            }
            Ask::Show => Step::Answered(self.ahead.join(",")),
        }
    }

    fn interactive(&mut self) -> Option<&mut dyn Interactive<Request = Ask, Reply = String>> {
        match self.style {
            Style::Late => None,
            Style::Ahead => Some(self),
        }
    }

    fn seal(&mut self) -> Option<Sealed> {
        assert_eq!(self.own, None, "its commit comes first");
        if self.waiting.is_empty() {
            return None;
        }
        self.sealed += 1;
        let own = (self.id.term.0, self.id.epoch, self.sealed);
        let (before, lines) = (self.tail, std::mem::take(&mut self.waiting));
        self.tail = own;
        let head = format!(
            "{} {} {} {} {} {}",
            before.0, before.1, before.2, own.0, own.1, own.2
        );
        assert!(self.left.is_empty(), "no set comes between parts");
        let part = |lines: &[String]| format!("{head}\n{}", lines.join("\n"));
        self.left = lines.chunks(self.part_lines_max).map(part).collect();
        self.made_before = self.parts.made.load(Ordering::Acquire);
        self.part()
    }

    fn next_part(&mut self) -> Option<Sealed> {
        self.part()
    }

    fn ended(&mut self) -> Option<EpochEnd> {
        let stopped = self.stopped.load(Ordering::Acquire);
        stopped.then_some(EpochEnd::Interrupted)
    }
}

/// Replies are the number of lines, or the lines. A state's number is how many it has. An empty line can't be committed, and a line
/// that is `end` ends the transaction.
impl Interactive for ListEpoch {
    type Request = Ask;
    type Reply = String;

    fn begin(&mut self, base: Option<u64>) -> Result<Arc<dyn Interrupt>, WriteError> {
        assert!(self.own.is_none() && self.waiting.is_empty(), "duty 1");
        if base.is_some_and(|base| base != self.ahead.len() as u64) {
            return Err(WriteError::Conflict);
        }
        self.own = Some(Vec::new());
        Ok(Arc::new(Stop(Arc::default())))
    }

    fn step(&mut self, request: Ask) -> Result<Stepped<String>, WriteError> {
        let own = self.own.as_mut().ok_or(WriteError::NotDone)?;
        let reply = match request {
            Ask::Push(line) => {
                own.push(line);
                (self.ahead.len() + own.len()).to_string()
            }
            Ask::Show => [&self.ahead[..], &own[..]].concat().join(","),
        };
        let open = own.last().is_none_or(|line| line != "end");
        if !open {
            self.own = None;
        }
        Ok(Stepped { reply, open })
    }

    fn commit(&mut self) -> Closing<String> {
        let Some(own) = self.own.take() else {
            return Closing::Over(Step::Refused(WriteError::NotDone));
        };
        if own.iter().any(String::is_empty) {
            self.own = Some(own);
            return Closing::Open("an empty line".to_owned());
        }
        let nothing = own.is_empty();
        self.ahead.extend(own.clone());
        self.waiting.extend(own);
        let reply = self.ahead.len().to_string();
        let key_reply = None;
        Closing::Over(match nothing {
            true => Step::Answered(reply),
            false => Step::Executed { reply, key_reply },
        })
    }

    fn roll_back(&mut self) {
        self.own = None;
    }
}

impl Drop for ListEpoch {
    fn drop(&mut self) {
        let was = lock(&self.inner).live.take();
        assert_eq!(was, Some(self.id), "one epoch at a time");
    }
}

struct Stop(Arc<AtomicBool>);

impl Interrupt for Stop {
    fn interrupt(&self) {
        self.0.store(true, Ordering::Release);
    }
}

fn parse(body: &[u8]) -> (u64, Tail, Tail, Vec<String>) {
    let text = std::str::from_utf8(body).unwrap();
    let (head, lines) = text.split_once('\n').unwrap();
    let numbers: Vec<u64> = head.split(' ').map(|word| word.parse().unwrap()).collect();
    let &[parts_left, a, b, c, d, e, f] = &numbers[..] else {
        panic!("{head}")
    };
    let lines = lines.split('\n').map(str::to_owned).collect();
    (parts_left, (a, b, c), (d, e, f), lines)
}

impl List {
    fn fail(&self) -> Result<(), MachineError> {
        if self.lines().len() as u64 >= self.lines_max.load(Ordering::Acquire) {
            return Err(error("no room for another line", Retry::Safe));
        }
        let mut failing = lock(&self.failing);
        match &mut *failing {
            Some((left, retry)) if *left > 0 => {
                *left -= 1;
                Err(error("injected", *retry))
            }
            _ => Ok(()),
        }
    }
}

impl StateMachine for List {
    type Request = Ask;
    type Reply = String;
    type Epoch = ListEpoch;
    type Source = Source;
    type Sink = Sink;

    fn encode_request(&self, request: &Ask) -> Bytes {
        match request {
            Ask::Push(line) => format!("+{line}").into(),
            Ask::Show => Bytes::from_static(b"?"),
        }
    }

    fn decode_request(&self, bytes: &[u8]) -> Result<Ask, MachineError> {
        let text = std::str::from_utf8(bytes).map_err(|e| MachineError::new(e, Retry::Useless))?;
        match text.strip_prefix('+') {
            Some(line) => Ok(Ask::Push(line.to_owned())),
            None if text == "?" => Ok(Ask::Show),
            None => Err(error("no request", Retry::Useless)),
        }
    }

    fn encode_reply(&self, reply: &String) -> Bytes {
        reply.clone().into()
    }

    fn decode_reply(&self, bytes: &[u8]) -> Result<String, MachineError> {
        String::from_utf8(bytes.to_vec()).map_err(|e| MachineError::new(e, Retry::Useless))
    }

    fn lead(&self, id: EpochId) -> (ListEpoch, Box<dyn Interrupt>) {
        self.epochs.fetch_add(1, Ordering::Relaxed);
        let mut inner = lock(&self.inner);
        assert_eq!(inner.live, None, "the previous one has been dropped");
        inner.live = Some(id);
        let stopped = Arc::new(AtomicBool::new(false));
        let epoch = ListEpoch {
            style: self.style,
            id,
            inner: self.inner.clone(),
            ahead: inner.applied.lines.clone(),
            tail: inner.applied.tail,
            sealed: 0,
            waiting: Vec::new(),
            stopped: stopped.clone(),
            part_lines_max: usize::try_from(self.part_lines_max.load(Ordering::Acquire)).unwrap(),
            parts: self.parts.clone(),
            left: VecDeque::new(),
            made_before: 0,
            own: None,
        };
        (epoch, Box::new(Stop(stopped)))
    }

    fn prepare(&self, command: Committed<'_>) -> Result<Applied<String>, MachineError> {
        self.fail()?;
        let mut inner = lock(&self.inner);
        let live = inner.live.map(|id| id.term);
        assert!(
            live.is_none_or(|live| live == command.id.term),
            "duty 5: an epoch of {live:?} lives while {} is prepared",
            command.id
        );
        let (parts_left, before, own, new) = parse(command.body);
        let mut lines = inner.applied.lines.clone();
        match self.style {
            Style::Late => {
                let mut replies = Vec::new();
                for (place, line) in new.into_iter().enumerate() {
                    let skipped = command.skip.get(place).is_some_and(|skip| *skip);
                    if !skipped {
                        lines.push(line);
                    }
                    replies.push(lines.len().to_string());
                }
                inner.next = Some((lines, own));
                Ok(Applied::Replies(replies))
            }
            // Safety rule 22: a function of the log alone.
            Style::Ahead if before == inner.applied.tail || own.2 == 1 => {
                if inner.staged.0 != own {
                    inner.staged = (own, Vec::new());
                }
                inner.staged.1.extend(new);
                if parts_left > 0 {
                    self.parts.applied.fetch_add(1, Ordering::AcqRel);
                    return Ok(Applied::Part);
                }
                lines.extend(std::mem::take(&mut inner.staged.1));
                inner.next = Some((lines, own));
                Ok(Applied::Accepted)
            }
            Style::Ahead => Ok(Applied::Refused),
        }
    }

    fn finish(&self, end: EntryEnd) -> Result<(), MachineError> {
        let mut inner = lock(&self.inner);
        assert!(end.id > inner.applied.end.id, "entries come once, in order");
        if let Some((lines, tail)) = inner.next.take() {
            inner.applied.lines = lines;
            inner.applied.tail = tail;
        }
        inner.applied.end = end;
        let (Some(id), checksum) = (inner.applied.end.id, checksum(&inner.applied.lines)) else {
            unreachable!("an entry was finished")
        };
        inner.checksums.insert(id.index.0, checksum);
        Ok(())
    }

    fn applied(&self) -> EntryEnd {
        lock(&self.inner).applied.end.clone()
    }

    fn durable(&self) -> EntryEnd {
        lock(&self.inner).durable.end.clone()
    }

    fn checkpoint_step(
        &self,
        log_durable: EntryId,
        _now: bool,
    ) -> Result<CheckpointStep, MachineError> {
        if let Some(retry) = *lock(&self.checkpoint_fails) {
            return Err(error("no checkpoint", retry));
        }
        let (steps, patience) = *lock(&self.slices);
        if self.steps.fetch_add(1, Ordering::AcqRel) % (steps + 1) < steps {
            return Ok(CheckpointStep::More { patience });
        }
        let mut inner = lock(&self.inner);
        let may = self.checkpoints.load(Ordering::Acquire);
        if may && inner.applied.end.id <= Some(log_durable) {
            inner.durable = inner.applied.clone();
        }
        Ok(CheckpointStep::Done(inner.durable.end.clone()))
    }

    fn snapshot(&self, which: Which) -> Result<Option<Source>, MachineError> {
        let inner = lock(&self.inner);
        let state = match which {
            Which::Durable => &inner.durable,
            Which::Newest => &inner.applied,
        };
        if state.end.id.is_none() {
            return Ok(None);
        }
        Ok(Some(Source::of(state)))
    }

    fn receive(&self, end: EntryEnd) -> Result<Sink, MachineError> {
        let own = self.lines();
        Ok(Sink::new(end, own, self.flaws.clone()))
    }

    fn install(&self, sink: Sink) -> Result<(), MachineError> {
        let state = sink.into_state();
        self.fail()?;
        self.installs.fetch_add(1, Ordering::Relaxed);
        let mut inner = lock(&self.inner);
        assert_eq!(inner.live, None, "the epoch was dropped before");
        inner.checksums = state
            .end
            .id
            .map(|id| (id.index.0, checksum(&state.lines)))
            .into_iter()
            .collect();
        inner.applied = state.clone();
        inner.durable = state;
        inner.distrusted = None;
        self.damaged.store(false, Ordering::Release);
        Ok(())
    }

    fn checksum_at(&self, index: LogIndex) -> Option<u64> {
        lock(&self.inner).checksums.get(&index.0).copied()
    }

    fn engine(&self) -> u64 {
        self.engine.load(Ordering::Acquire)
    }

    fn mismatch(&self) -> Option<Mismatch> {
        lock(&self.mismatch).take()
    }

    fn verify(&self) -> Result<(), MachineError> {
        if self.damaged.load(Ordering::Acquire) {
            return Err(error("line 1 is damaged", Retry::Useless));
        }
        Ok(())
    }

    fn distrust(&self, why: &str) -> Result<(), MachineError> {
        lock(&self.inner).distrusted = Some(why.to_owned());
        Ok(())
    }

    fn distrusted(&self) -> Option<String> {
        lock(&self.inner).distrusted.clone()
    }
}
