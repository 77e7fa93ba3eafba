package cas

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/casd/casd/chunking"
	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// A Store keeps objects. It is safe for concurrent use.
type Store struct {
	opts      Options
	log       recordLog
	idx       *index.DB
	chunks    chunkMap // of idx
	indexPath string
	metrics   *metrics
	codec     *codec
	cache     *chunkCache
	splitters *chunking.Pool
	domain    *domain // the one dedup domain of this version
	versions  *versionNamer
	pending   *pendingTable
	pins      pins
	lastTime  atomic.Int64 // of the last mutation, nanoseconds

	summaries map[erasure.SegmentID]segmentSummary // what cycles learned of segments; of the one that runs
	lastGC    atomic.Pointer[GCReport]
	freed     atomic.Int64 // plain bytes that lost a name since the last cycle began; more than became garbage
	strayRows atomic.Bool  // the chunk map may have rows that lead into dropped segments
	sabotage  sabotage
	opened    time.Time
	damaged   damagedSet
	// What runs for long, and in the background. It ends before anything else does.
	operations operations
	clients    atomic.Int64              // that are reading or writing bytes
	receipts   sync.Mutex                // one receipt is written at a time
	lastScrub  atomic.Pointer[Receipt]   // without its lists
	passBegan  atomic.Pointer[time.Time] // the pass of the background scrub that is not done
	created    time.Time
	healer     *healer
	lastCheck  atomic.Pointer[CheckReport] // without its lists; since the start
	// Memory is bounded apart for each direction: a part copy holds a download while it waits for an upload, and nothing
	// that holds an upload waits for a download.
	uploads, downloads *semaphore.Weighted

	ctx    context.Context // ends with the store
	cancel context.CancelFunc

	submitters   sync.RWMutex // held for reading while a request is queued; for writing to close the queue
	closed       bool         // guarded by submitters
	queue        chan *request
	frozen       chan struct{} // an overlay waits for the checkpointer
	checkpointed chan struct{} // it has been written
	freezeNow    chan chan freezeReply
	checkpoints  checkpoints
	committer    *committer

	committing, checkpointing sync.WaitGroup // their goroutines

	failed       atomic.Pointer[error]       // why writing stopped
	checkpoint   func(context.Context) error // writes the frozen overlay
	indexTrouble atomic.Pointer[error]       // why the last checkpoint could not be written; it is tried again
	undecided    bool                        // the log could not decide where it ends: nothing of this run may be checkpointed
	incomplete   bool                        // the log could not be replayed to its end
	stopping     chan struct{}               // closed when the store closes
	dead         chan struct{}
	deadOnce     sync.Once
	deadErr      error
}

// defaultDomain is the dedup domain of all buckets in a store without tenants.
const defaultDomain = 1

// params are the creation options of a store, kept in every directory's format file.
type params struct {
	Chunking chunking.Params `json:"chunking"`
}

func (o Options) withDefaults() (Options, error) {
	def := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	def(&o.SegmentBytes, 1<<30)
	def(&o.OverlayBytesMax, 256<<20)
	def(&o.CacheBytes, 128<<20)
	def(&o.MemoryBytes, 1<<30)
	if o.CheckpointEntries == 0 {
		o.CheckpointEntries = 1 << 16
	}
	if o.CheckpointInterval == 0 {
		o.CheckpointInterval = 5 * time.Second
	}
	if o.UploadExpiry == 0 {
		o.UploadExpiry = uploadExpiry
	}
	if o.GCThreshold == 0 {
		o.GCThreshold = 0.25
	}
	if o.ScrubLevel == "" {
		o.ScrubLevel = ScrubChunks
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case len(o.Dirs) == 0:
		return o, errors.New("cas: no data directories")
	case o.MemoryBytes < memoryBytesMin:
		return o, fmt.Errorf("cas: memory of %d bytes is less than one upload and one download need (%d)", o.MemoryBytes, memoryBytesMin)
	case o.ScrubRate < 0 || o.ScrubLevel == ScrubHeal:
		return o, errors.New("cas: a setting of the background scrub is out of range")
	case o.SegmentBytes < 1<<20:
		return o, fmt.Errorf("cas: segments of %d bytes are too small, at least 1 MiB", o.SegmentBytes)
	case o.CacheBytes < 0 || o.OverlayBytesMax < 1<<20 || o.CheckpointEntries < 1 || o.CheckpointInterval < 0:
		return o, errors.New("cas: a bound is out of range")
	case o.ScrubInterval < 0 || o.ScrubRate < 0 || o.GCInterval < 0 || o.GCRate < 0:
		return o, errors.New("cas: an interval or a rate is negative")
	case !(o.GCThreshold > 0 && o.GCThreshold <= 1): // nor NaN
		return o, fmt.Errorf("cas: a garbage threshold of %g is not more than 0 and at most 1", o.GCThreshold)
	}
	return o, nil
}

// An inUseError matches ErrInUse; the error inside says who has the store.
type inUseError struct{ error }

func (e inUseError) Unwrap() error        { return e.error }
func (e inUseError) Is(target error) bool { return target == ErrInUse }

// Open opens the store in o.Dirs, or creates it when all of them are empty. After a crash it replays the tail of the log first.
// The error matches ErrInUse when another process has it open.
// An index that turns out to be damaged on the way is set aside, and built anew.
func Open(ctx context.Context, o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	m := newMetrics(o.Metrics)
	s, err := open(ctx, o, m)
	if s != nil && isCorruptIndex(err) {
		if err := s.setIndexAside(err); err != nil {
			return nil, err
		}
		s, err = open(ctx, o, m)
	}
	if err != nil {
		m.unregister()
		return nil, err
	}
	return s, nil
}

// open returns a store with its error when only its index is damaged; it is closed then.
func open(ctx context.Context, o Options, m *metrics) (_ *Store, err error) {
	s := &Store{
		opts: o, pending: newPendingTable(), metrics: m, uploads: semaphore.NewWeighted(o.MemoryBytes / 2), downloads: semaphore.NewWeighted(o.MemoryBytes / 2), stopping: make(chan struct{}),
		queue: make(chan *request, queueMax), frozen: make(chan struct{}, 1), checkpointed: make(chan struct{}, 1), freezeNow: make(chan chan freezeReply), dead: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.healer = newHealer(s)
	defer func() {
		if err != nil {
			s.cancel()
			if s.idx != nil {
				err = errors.Join(err, s.idx.Close())
			}
			if s.log != nil {
				err = errors.Join(err, s.log.Close(context.WithoutCancel(ctx)))
			}
		}
	}()
	if s.codec, err = newCodec(); err != nil {
		return nil, err
	}
	if s.cache, err = newChunkCache(o.CacheBytes, s.metrics); err != nil {
		return nil, err
	}
	if err := s.openLog(ctx); err != nil {
		return nil, err
	}
	if s.indexPath, err = s.chooseIndexPath(); err != nil {
		return nil, err
	}
	if o.rebuild != nil {
		if err := o.rebuild.begin(s); err != nil {
			return nil, err
		}
	}
	if err := s.openIndex(); err != nil {
		return s, err
	}
	s.chunks = s.idx
	if s.committer, err = s.recover(ctx); err != nil {
		return s, err
	}
	if s.checkpoint = s.idx.WriteFrozen; o.wrapCheckpoint != nil {
		s.checkpoint = o.wrapCheckpoint(s.checkpoint)
	}
	s.committing.Go(s.committer.run)
	s.checkpointing.Go(s.checkpointer)
	if s.domain, err = s.openDomain(ctx); err != nil {
		s.stopWorkers()
		return s, err
	}
	if err := s.loadSchedule(); err != nil {
		s.stopWorkers()
		return s, err
	}
	if s.commitState(erasure.TierDelete) == nil {
		s.followMembers(ctx)
	}
	s.metrics.watch(s)
	if !o.byHand {
		s.background(s.healer.loop)
		s.background(s.schedule)
		if !o.OnDemand {
			s.background(s.watchDirs)
		}
	}
	s.opened = s.opts.Clock()
	if s.opts.GCInterval > 0 {
		s.background(s.gcLoop)
	}
	return s, nil
}

func (s *Store) openLog(ctx context.Context) error {
	o := erasure.Options{
		Dirs: s.opts.Dirs, FS: s.opts.FS, OnDurable: s.onDurable, SegmentBytes: s.opts.SegmentBytes, IOTimeout: s.opts.IOTimeout,
		MetadataSegmentBytes: s.opts.metadataSegmentBytes, Code: erasure.Code{K: s.opts.K, M: s.opts.M},
		AllowNetworkFS: s.opts.AllowNetworkFS, Logger: s.opts.Logger, Metrics: s.opts.Metrics,
	}
	if !s.opts.NoCreate {
		chunks, err := chunking.NewParams()
		if err != nil {
			return err
		}
		p, err := json.Marshal(params{Chunking: chunks})
		if err != nil {
			return err
		}
		o.Create = &erasure.Creation{K: s.opts.K, M: s.opts.M, Params: p}
	}
	log, err := erasure.Open(ctx, o)
	var held *erasure.LockedError
	if errors.As(err, &held) {
		return inUseError{err}
	}
	if err != nil {
		return err
	}
	s.log = log
	var p params
	if err := json.Unmarshal(log.Params(), &p); err != nil {
		return fmt.Errorf("cas: creation options: %w", err)
	}
	s.splitters, err = chunking.NewPool(p.Chunking)
	return err
}

// chooseIndexPath takes the directory that was asked for, else the first data directory that has an index, else the first
// healthy one.
func (s *Store) chooseIndexPath() (string, error) {
	const name = "catalog.bolt"
	if s.opts.IndexDir != "" {
		return filepath.Join(s.opts.IndexDir, name), nil
	}
	var first string
	for _, d := range s.log.Dirs() {
		if d.State != "online" && d.State != "full" {
			continue
		}
		path := filepath.Join(d.Path, "index", name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		if first == "" {
			first = path
		}
	}
	if first == "" {
		return "", errors.New("cas: no data directory is online: name one for the index with --index")
	}
	return first, nil
}

func isCorruptIndex(err error) bool { return errors.Is(err, index.ErrCorrupt) }

// openDomain reads the key of the default domain; a new store gets one by its first mutation.
func (s *Store) openDomain(ctx context.Context) (*domain, error) {
	read := func() (row domainRow, ok bool, err error) {
		v, err := s.idx.View()
		if err != nil {
			return row, false, err
		}
		defer v.Close()
		row, _, ok, err = getRow[domainRow](v, index.Domains, domainKey(defaultDomain))
		return row, ok, err
	}
	row, ok, err := read()
	if err != nil {
		return nil, err
	}
	if !ok && s.incomplete {
		return nil, fmt.Errorf("cas: neither the index nor what can be read of the log has the catalog; are data directories missing? %w: %w", ErrIncomplete, s.failure())
	}
	if !ok {
		if used, err := s.used(); err != nil || used {
			return nil, errors.Join(err, fmt.Errorf("cas: the key of dedup domain %d is missing: %w", defaultDomain, ErrCorrupt))
		}
		key := make([]byte, 32)
		rand.Read(key) // never fails
		row = domainRow{Key: key, Created: s.opts.Clock().UnixNano()}
		err := s.update(ctx, nil, func(r index.Reader) (*tx, error) {
			t, err := membersTx(s.log.Dirs())(r)
			if err == nil {
				t.put(index.Domains, domainKey(defaultDomain), row)
			}
			return t, err
		})
		if err != nil {
			return nil, fmt.Errorf("cas: create store: %w", err)
		}
	}
	s.created = unixNano(row.Created)
	h, err := newHasher(row.Key)
	if err != nil {
		return nil, err
	}
	if s.versions, err = newVersionNamer(row.Key); err != nil {
		return nil, err
	}
	return &domain{number: defaultDomain, hash: h}, nil
}

// used tells whether anything was ever stored. A start that was cut short leaves a store with nothing but verdicts.
func (s *Store) used() (used bool, err error) {
	err = s.view(func(v *index.View) error {
		for _, t := range []index.Table{index.Buckets, index.Objects, index.Uploads} {
			if _, ok, err := v.First(t, nil, nil); err != nil || ok {
				used = ok
				return err
			}
		}
		return nil
	})
	return used || s.idx.Totals().Chunks > 0, err
}

// onDurable puts chunks into the chunk map as they become durable.
func (s *Store) onDurable(placed []erasure.Placed) {
	rows := make([]index.Chunk, 0, len(placed))
	for _, p := range placed {
		if p.Kind != kindChunk && p.Kind != kindList {
			continue
		}
		row, err := chunkRow(p)
		if err != nil { // we made that label ourselves
			panic(err)
		}
		rows = append(rows, row)
	}
	if err := s.chunks.PutChunks(rows); err != nil {
		s.indexError(err)
		s.fail(err)
		s.die(fmt.Errorf("index: %w", err))
		return
	}
	for _, r := range rows {
		s.damaged.remove(r.ID)
		s.pending.remove(r.ID, true)
	}
}

// Close commits what was submitted, writes a checkpoint, seals the log and lets go of the directories. Uploads in progress are abandoned.
func (s *Store) Close(ctx context.Context) error {
	s.operations.close() // while they can still write down how far they came
	s.submitters.Lock()
	if s.closed {
		s.submitters.Unlock()
		return ErrClosed
	}
	s.closed = true
	s.submitters.Unlock()
	s.stopWorkers()
	// The log first: sealing makes the last appended chunks durable, and the checkpoint should cover them.
	err := logError("close", s.log.Close(ctx))
	if s.failure() == nil {
		err = errors.Join(err, s.finalCheckpoint(ctx))
	}
	s.cancel()
	s.metrics.unregister()
	return errors.Join(err, s.idx.Close())
}

// stopWorkers ends the committer when it has done what is queued, then the checkpointer.
func (s *Store) stopWorkers() {
	close(s.stopping)
	close(s.queue)
	s.committing.Wait()
	close(s.frozen)
	s.checkpointing.Wait()
}

func (s *Store) finalCheckpoint(ctx context.Context) error {
	if s.idx.OverlayEntries() == 0 || s.undecided || len(s.committer.owed) > 0 {
		return nil
	}
	if !s.freeze(s.committer.csn) { // one that could not be written
		return errors.New("cas: the last checkpoint was not written; the next start replays the log")
	}
	return s.idx.WriteFrozen(ctx)
}

// WriteState is nil when uploads are accepted, else the reason why not: ErrReadOnly, ErrNoSpace or ErrClosed.
func (s *Store) WriteState() error {
	if err := s.commitState(erasure.TierUpload); err != nil {
		return err
	}
	if e := s.indexTrouble.Load(); e != nil && errors.Is(*e, syscall.ENOSPC) {
		return fmt.Errorf("%w: index: %w", ErrNoSpace, *e)
	}
	return nil
}

// commitState is WriteState for a tier, of which those above uploads take next to nothing of the index.
func (s *Store) commitState(tier erasure.Tier) error {
	if err := s.failure(); err != nil {
		return fmt.Errorf("%w until a restart: %w", ErrReadOnly, err)
	}
	return logError("write", s.log.Room(tier))
}

// Ready is nil when reads are served.
func (s *Store) Ready() error {
	if s.ctx.Err() != nil {
		return ErrClosed
	}
	return s.DeadErr()
}
