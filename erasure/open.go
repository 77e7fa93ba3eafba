package erasure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Open opens the log that lies in opt.Dirs, or creates it. The log can be read at once; it takes writes after Recover.
//
// Open returns ErrEmptyDirs when no directory holds a store and opt.Create is nil, and a *DirError that names the directory
// when one cannot belong: it is of another store, of a newer format, given twice, locked by another process (the error then
// also is a *LockedError), or on a network file system. A directory that is missing, unreadable or empty is absent: what
// the others hold can be read, and written as the membership rule allows.
func Open(ctx context.Context, opt Options) (*Log, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l := &Log{opt: opt, fs: opt.FS, log: opt.Logger, segs: map[SegmentID]*segment{}, verdicts: map[SegmentID]Verdict{}, marks: map[SegmentID]uint32{},
		voids: voidSet{ids: map[SegmentID]bool{}}, retired: map[SegmentID]*segment{}, creating: map[SegmentID]struct{}{},
		pipe: make(chan pipeItem, 64), room: make(chan struct{}), kick: make(chan struct{}, 1), stop: make(chan struct{})}
	l.members.changing = make(chan struct{}, 1)
	l.writer = l.random()
	if err := l.openDirs(); err != nil {
		l.unlock()
		return nil, err
	}
	if l.metrics, err = newMetrics(l, opt.Metrics); err != nil {
		l.unlock()
		return nil, fmt.Errorf("erasure: metrics: %w", err)
	}
	l.files.init(l.fs)
	for _, d := range l.dirs() {
		if d.readable() {
			d.start()
		}
	}
	if err := l.listSegments(); err != nil {
		l.release()
		return nil, err
	}
	l.findHoles()
	if c := opt.Code; c != (Code{}) {
		if err := l.SetCode(ctx, c.K, c.M, 0); errors.Is(err, ErrReadOnly) || errors.Is(err, ErrNoSpace) {
			l.log.LogAttrs(ctx, slog.LevelWarn, "the code stays as it is", slog.String("code", l.code().String()), slog.String("cause", err.Error()))
		} else if err != nil {
			l.release()
			return nil, err
		}
	}
	go l.encodeBulk()
	l.background.Add(1)
	go l.syncLoop()
	return l, nil
}

func (l *Log) unlock() {
	for _, d := range l.dirs() {
		if d.lock != nil {
			d.lock.Close()
			d.lock = nil
		}
	}
}

// A shardFile is a shard file that was found.
type shardFile struct {
	d      *dir
	id     SegmentID
	class  Class
	index  int
	footer *footer // nil: not sealed, as far as this file tells
	first  *header // the first one that is right, when there is no footer
	broken error   // the directory gave an error and said nothing about the file
}

// listSegments finds out from the names, footers and first headers of all shard files what segments there are.
func (l *Log) listSegments() error {
	dirs := l.dirs()
	found := make([][]shardFile, len(dirs))
	errs := make([]error, len(dirs))
	var wg sync.WaitGroup
	for i, d := range dirs {
		if d.readable() {
			wg.Go(func() { found[i], errs[i] = l.listDir(d) })
		}
	}
	wg.Wait()
	for i, err := range errs {
		if errors.Is(err, errNewer) {
			return &DirError{Path: dirs[i].path, Reason: "holds data of a newer format; start a newer casd", Err: err}
		}
		if err != nil {
			dirs[i].setOffline(err)
		}
	}
	byID := map[SegmentID][]shardFile{}
	for _, files := range found {
		for _, f := range files {
			byID[f.id] = append(byID[f.id], f)
			l.maxID = max(l.maxID, f.id)
		}
	}
	for id, files := range byID {
		s := l.assemble(id, files)
		if s.class == Snapshot && !s.sealed { // it was never finished, and nothing names it
			l.voids.ids[id] = !slices.ContainsFunc(files, func(f shardFile) bool { return f.broken != nil })
			continue
		}
		l.segs[id] = s
		if s.known {
			l.learnParity(s.m)
		}
	}
	return nil
}

func (l *Log) listDir(d *dir) ([]shardFile, error) {
	var names []string
	err, abandoned := d.guard(context.Background(), func() (err error) {
		names, err = l.fs.ReadDir(d.segments())
		return err
	})
	if abandoned || err != nil {
		return nil, err
	}
	var files []shardFile
	for _, name := range names {
		id, class, index, ok := parseShardName(name)
		if _, _, _, unfinished := parseShardName(strings.TrimSuffix(name, tmpExtension)); !ok && unfinished {
			l.removeTemp(d, filepath.Join(d.segments(), name)) // its move, or repair, died
			continue
		}
		if !ok {
			l.log.LogAttrs(context.Background(), slog.LevelWarn, "file that is no shard file is ignored", slog.String("path", filepath.Join(d.segments(), name)))
			continue
		}
		f := &shardFile{d: d, id: id, class: class, index: index}
		if err, abandoned := d.guard(context.Background(), func() error { return l.identify(f, filepath.Join(d.segments(), name)) }); err != nil || abandoned {
			return files, err
		}
		files = append(files, *f)
	}
	return files, nil
}

// identify reads the footer of a shard file, or its first header. Only errNewer is returned.
func (l *Log) identify(f *shardFile, path string) error {
	file, err := l.fs.OpenFile(path, os.O_RDONLY)
	if err != nil {
		f.broken = err
		return nil
	}
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		f.broken = err
		return nil
	}
	if fi.Size < blockBytes {
		return nil
	}
	b := make([]byte, blockBytes)
	if _, err := file.ReadAt(b, fi.Size-blockBytes); err == nil || errors.Is(err, io.EOF) {
		foot, err := decodeFooter(b)
		switch {
		case errors.Is(err, errNewer):
			return err
		case err == nil && foot.store == l.store && foot.segment == f.id && foot.class == f.class && int(foot.index) == f.index && foot.stored == fi.Size:
			f.footer = &foot
			return nil
		}
	}
	return l.firstHeader(f, file, fi.Size)
}

// identifyMax bounds the search for a header in a shard file that has no footer and does not begin with one.
const identifyMax = 32 << 20

// firstHeader sets f.first to the first header in the file that belongs to it.
func (l *Log) firstHeader(f *shardFile, file File, size int64) error {
	b := make([]byte, blockBytes)
	for off := int64(0); off+blockBytes <= min(size, identifyMax); off += int64(len(b)) {
		if off > 0 && len(b) == blockBytes {
			b = make([]byte, 1<<20)
		}
		n, err := file.ReadAt(b, off)
		if err != nil && !errors.Is(err, io.EOF) {
			f.broken = err
			return nil
		}
		for at := 0; at+headerBytes <= n; at += blockBytes {
			h, err := decodeHeader(b[at:])
			switch {
			case errors.Is(err, errNewer):
				return err
			case err == nil && h.store == l.store && h.segment == f.id && h.class == f.class && int(h.index) == f.index:
				f.first = &h
				return nil
			}
		}
	}
	return nil
}

// assemble makes a segment of its shard files. Footers and headers vote for the identity, so that one liar cannot hide the others.
func (l *Log) assemble(id SegmentID, files []shardFile) *segment {
	type identity struct {
		nonce id16
		k, m  uint8
	}
	votes := map[identity]int{}
	var best identity
	var foot *footer
	footVotes := map[footer]int{}
	for _, f := range files {
		var who identity
		switch {
		case f.footer != nil:
			who = identity{f.footer.nonce, f.footer.k, f.footer.m}
			shared := f.footer.shared()
			footVotes[shared]++
			if foot == nil || footVotes[shared] > footVotes[*foot] {
				foot = &shared
			}
		case f.first != nil:
			who = identity{f.first.nonce, f.first.k, f.first.m}
		default:
			continue
		}
		votes[who]++
		if votes[who] > votes[best] {
			best = who
		}
	}
	s := &segment{id: id, class: files[0].class, known: best.k > 0, k: int(best.k), m: int(best.m), nonce: best.nonce, homes: newHomes(shardsMax)}
	if s.known {
		s.homes = s.homes[:s.n()]
	}
	rank := make([]int, shardsMax)
	for _, f := range files {
		if f.index >= len(s.homes) || f.class != s.class {
			l.log.LogAttrs(context.Background(), slog.LevelWarn, "shard file does not belong to its segment",
				slog.String("dir", f.d.path), slog.String("file", shardName(f.id, f.class, f.index)))
			continue
		}
		r := 1 // an unknown file
		if f.footer != nil && f.footer.nonce == s.nonce || f.first != nil && f.first.nonce == s.nonce {
			r = 2
		}
		if other := s.dirOf(f.index); other != nil {
			l.secondCopy(f, other)
		}
		if r > rank[f.index] {
			f.d = s.homes[f.index].Swap(f.d)
			rank[f.index] = r
		}
		if f.d != nil {
			l.duplicates.add(id, f.index, f.d)
		}
	}
	sealed := foot != nil && foot.nonce == s.nonce
	for _, f := range files {
		if sealed && f.footer == nil && s.dirOf(f.index) == f.d { // older than the segment: sealing was cut short, or the disk is an old copy
			l.suspects.add(id)
		}
	}
	if sealed {
		s.setFooter(*foot)
		return s
	}
	for _, f := range files {
		if f.broken != nil { // unknown is not missing: it may hold stripes that nobody else does
			f.d.setOffline(f.broken)
		}
	}
	return s
}

// secondCopy takes note of a shard file of which other, when it is not nil, has a copy.
func (l *Log) secondCopy(f shardFile, other *dir) {
	if other != nil {
		l.log.LogAttrs(context.Background(), slog.LevelWarn, "two copies of a shard file",
			slog.String("dir", f.d.path), slog.String("dir2", other.path), slog.String("file", shardName(f.id, f.class, f.index)))
	}
}

// SetVerdicts tells the log of verdicts: those of the catalog, then those found in the tail of the log. Telling twice does
// no harm; two different verdicts on one segment are ErrVerdict; one on a segment that was dropped is passed over. It is called before Recover and not concurrently with
// anything else.
func (l *Log) SetVerdicts(vs []Verdict) error {
	for _, v := range vs {
		if v.Segment == 0 {
			return fmt.Errorf("%w: no segment", ErrVerdict)
		}
		l.segMu.Lock()
		if l.voids.has(v.Segment) {
			l.segMu.Unlock()
			continue
		}
		old, ok := l.verdicts[v.Segment]
		if !ok {
			l.verdicts[v.Segment] = v
			l.maxID = max(l.maxID, v.Segment)
		}
		s := l.segs[v.Segment]
		l.segMu.Unlock()
		if ok && old != v {
			return fmt.Errorf("%w: segment %016x ends after %d stripes, and after %d", ErrVerdict, uint64(v.Segment), old.Stripes, v.Stripes)
		}
		if ok || s == nil {
			continue
		}
		s.mu.Lock()
		if s.sealed && s.count == v.Stripes && s.digest == id16(v.Digest) {
			s.mu.Unlock()
			continue // sealing was cut short after all was durable
		}
		s.sealed, s.ended, s.verdict, s.surveyed = false, true, v, false
		s.mu.Unlock()
	}
	return nil
}

// CheckPosition returns ErrAhead when the log does not hold the stripe that p names, ErrDropped when its segment was dropped
// as far as the log was told, and ErrUnavailable when so much is out of reach that nobody knows.
func (l *Log) CheckPosition(p Position) error {
	if p.Seq == 0 {
		return nil
	}
	if l.blind() {
		return fmt.Errorf("%w: %d directories are out of service", ErrUnavailable, l.outOfService())
	}
	if l.void(p.Segment) {
		return fmt.Errorf("%w: segment %016x", ErrDropped, uint64(p.Segment))
	}
	s := l.lookup(p.Segment)
	if s == nil {
		return fmt.Errorf("%w: segment %016x is not there", ErrAhead, uint64(p.Segment))
	}
	ctx := context.Background()
	var found *stripeInfo
	err := l.eachStripe(ctx, s, p.Seq-1, func(e dirEntry) error {
		if e.number == p.Stripe {
			found = &e.stripeInfo
			return errStop
		}
		return nil
	})
	switch {
	case err != nil && !errors.Is(err, errStop):
		return err
	case found == nil:
		return fmt.Errorf("%w: segment %016x has no stripe %d", ErrAhead, uint64(p.Segment), p.Stripe)
	case found.seq != p.Seq || found.digest != id16(p.Digest):
		return fmt.Errorf("%w: stripe %d of segment %016x is another one", ErrAhead, p.Stripe, uint64(p.Segment))
	}
	return nil
}

var errStop = errors.New("stop")
