package cas

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

const (
	shadowSuffix = ".check" // of the index that a check builds beside the one that it checks

	// What a shadow holds in memory before it writes it out.
	shadowRowsMax  = 1 << 16
	shadowBytesMax = 32 << 20
)

// A shadow is an index that is built from the log alone, up to a CSN, in a file of its own: from the newest snapshot and the mutations
// behind it. Nothing in it is ever synced.
type shadow struct {
	s      *Store
	path   string
	idx    *index.DB
	csn    uint64 // of the last mutation that is in it
	seq    uint64 // of the stripe that held it
	stage  *index.Stage
	staged int
	bytes  int
	chunks []index.Chunk
}

// newShadow begins an empty one.
func (s *Store) newShadow() (*shadow, error) {
	sh := &shadow{s: s, path: s.indexPath + shadowSuffix}
	if err := index.Remove(sh.path); err != nil { // left over from a crash
		return nil, err
	}
	var err error
	sh.idx, err = index.Open(index.Options{Path: sh.path, NoSync: true, Logger: s.opts.Logger})
	return sh, err
}

// begin loads the newest snapshot that is whole, as whoever builds the index anew would do.
func (sh *shadow) begin(ctx context.Context, op *operation) error {
	for _, id := range sh.s.log.LatestSnapshots() {
		var rows, bytes int64
		// All of it is read before anything of it is used.
		head, err := sh.s.readSnapshot(ctx, id, func(index.Table, []snapshotItem) error { return nil })
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			sh.s.opts.Logger.Warn("snapshot is not used", slog.Uint64("segment", uint64(id)), slog.Any("error", err))
			continue
		}
		_, err = sh.s.readSnapshot(ctx, id, func(t index.Table, items []snapshotItem) (err error) {
			if sh.stage == nil {
				if sh.stage, err = sh.idx.Stage(); err != nil {
					return err
				}
			}
			entries := make([]index.Entry, len(items))
			for i, r := range items {
				entries[i] = index.Entry{Key: r.Key, Value: r.Value, Rev: r.Rev}
				bytes += int64(len(r.Key) + len(r.Value))
			}
			rows += int64(len(items))
			op.progress("snapshot", rows, 0, "items")
			if err := sh.stage.Load(t, entries); err != nil || bytes < snapshotLoadBytes {
				return err
			}
			bytes = 0
			return sh.flush()
		})
		if err != nil {
			return fmt.Errorf("load snapshot: %w", err)
		}
		if sh.stage == nil {
			if sh.stage, err = sh.idx.Stage(); err != nil {
				return err
			}
		}
		if err := sh.stage.SetCSN(head.CSN); err != nil {
			return err
		}
		sh.csn = head.CSN
		return sh.flush()
	}
	return nil
}

// close removes it.
func (sh *shadow) close() error {
	if sh.stage != nil {
		sh.stage.Discard()
	}
	return errors.Join(sh.idx.Close(), index.Remove(sh.path))
}

// mutation applies a mutation. Those that it has are skipped. An error matches errGap when one is missing before it.
func (sh *shadow) mutation(m mutation, bytes int, seq uint64) (err error) {
	if m.CSN <= sh.csn {
		return nil
	}
	if m.CSN != sh.csn+1 {
		return fmt.Errorf("%w: %d follows %d", errGap, m.CSN, sh.csn)
	}
	if sh.stage == nil {
		if sh.stage, err = sh.idx.Stage(); err != nil {
			return err
		}
	}
	if err := sh.stage.Apply(m.CSN, m.Ops); err != nil {
		return err
	}
	sh.csn, sh.seq = m.CSN, seq
	sh.staged++
	if sh.bytes += bytes; sh.staged >= replayOpsMax || sh.bytes >= replayBytesMax {
		return sh.flush()
	}
	return nil
}

// chunk notes a row of the chunk map that is right.
func (sh *shadow) chunk(c index.Chunk) error {
	if sh.chunks = append(sh.chunks, c); len(sh.chunks) >= replayChunksMax {
		return sh.flush()
	}
	return nil
}

// flush publishes what was gathered, and writes it out when it is much.
func (sh *shadow) flush() error {
	if sh.stage != nil {
		sh.stage.Publish()
		sh.stage, sh.staged, sh.bytes = nil, 0, 0
	}
	if len(sh.chunks) > 0 {
		if err := sh.idx.PutChunks(sh.chunks); err != nil {
			return err
		}
		sh.chunks = sh.chunks[:0]
	}
	if sh.idx.OverlayEntries() < shadowRowsMax && sh.idx.OverlayBytes() < shadowBytesMax {
		return nil
	}
	sh.idx.Freeze(index.Position{CSN: sh.csn})
	return sh.idx.WriteFrozen(context.Background())
}

// errReached ends a replay at the CSN that was asked for.
var errReached = errors.New("cas: the log was replayed far enough")

// replay applies the log up to a CSN. each is called for every record that is not a mutation; it may be nil.
func (sh *shadow) replay(ctx context.Context, until uint64, pace *pacer, each func(erasure.Placed) error) (mutations int64, err error) {
	after := sh.seq
	if after > 0 {
		after-- // the stripe may hold more than was taken
	}
	err = sh.s.log.Replay(ctx, after, isMutation, func(r erasure.Replayed) error {
		if err := pace.wait(ctx, len(r.Label)+len(r.Body)); err != nil {
			return err
		}
		if r.Kind != kindMutation {
			if each == nil {
				return nil
			}
			return each(r.Placed)
		}
		switch csn := mutationCSN(r.Label); {
		case csn > until:
			return errReached
		case csn <= sh.csn:
			return nil
		}
		m, err := decodeMutation(r.Label, r.Body)
		if err != nil {
			return err
		}
		mutations++
		return sh.mutation(m, len(r.Body), r.Seq)
	})
	if errors.Is(err, errReached) {
		err = nil
	}
	return mutations, errors.Join(err, sh.flush())
}
