package cas

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// What a checkpoint covers lies in the index as: stripe sequence 8, segment 8, stripe 4 bytes, digest 16, time of the last mutation 8;
// little endian.
const positionBytes = 44

func encodePosition(p erasure.Position, last int64) []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, positionBytes), p.Seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(p.Segment))
	b = binary.LittleEndian.AppendUint32(b, p.Stripe)
	return binary.LittleEndian.AppendUint64(append(b, p.Digest[:]...), uint64(last))
}

// decodePosition takes nothing for the beginning of the log.
func decodePosition(b []byte) (p erasure.Position, last int64, err error) {
	if len(b) == 0 {
		return p, 0, nil
	}
	if len(b) != positionBytes {
		return p, 0, fmt.Errorf("cas: log position of %d bytes: %w", len(b), index.ErrCorrupt)
	}
	p.Seq = binary.LittleEndian.Uint64(b)
	p.Segment = erasure.SegmentID(binary.LittleEndian.Uint64(b[8:]))
	p.Stripe = binary.LittleEndian.Uint32(b[16:])
	copy(p.Digest[:], b[20:])
	return p, int64(binary.LittleEndian.Uint64(b[36:])), nil
}

// freeze sets the overlay aside for the next checkpoint. It runs in the committer between batches, so that mutation csn
// and all before it are published. The log position is taken first: what the log reports as durable later is in the overlay
// too, or is replayed once more, which changes nothing.
func (s *Store) freeze(csn uint64) bool {
	pos := s.log.Position()
	if s.failure() != nil { // what the position covers may not have reached the chunk map
		return false
	}
	if !s.idx.Freeze(index.Position{CSN: csn, Log: encodePosition(pos, s.committer.last)}) {
		return false
	}
	s.checkpoints.Lock()
	s.checkpoints.frozen++
	s.checkpoints.Unlock()
	return true
}

// checkpoints count what was frozen and what of it is in the index file, for who waits for it.
type checkpoints struct {
	sync.Mutex
	frozen, written uint64
	moved           chan struct{} // closed and replaced when written rises
}

// watch returns how many were written, and what is closed when one more is.
func (c *checkpoints) watch() (written uint64, moved <-chan struct{}) {
	c.Lock()
	defer c.Unlock()
	if c.moved == nil {
		c.moved = make(chan struct{})
	}
	return c.written, c.moved
}

func (c *checkpoints) wrote() {
	c.Lock()
	defer c.Unlock()
	c.written++
	if c.moved != nil {
		close(c.moved)
		c.moved = nil
	}
}

// A freezeReply is the number of the checkpoint that was asked for; 0 when the one before is not written yet.
type freezeReply struct {
	number uint64
	err    error // there will be none
}

// freezeFor freezes the overlay for someone who waits for the checkpoint. It runs in the committer.
func (s *Store) freezeFor(csn uint64) freezeReply {
	if s.undecided || len(s.committer.owed) > 0 {
		return freezeReply{err: fmt.Errorf("%w: where the log ends is not written down", ErrReadOnly)}
	}
	if !s.freeze(csn) {
		if err := s.failure(); err != nil {
			return freezeReply{err: fmt.Errorf("%w: %w", ErrReadOnly, err)}
		}
		return freezeReply{}
	}
	select {
	case s.frozen <- struct{}{}:
	default:
	}
	s.checkpoints.Lock()
	defer s.checkpoints.Unlock()
	return freezeReply{number: s.checkpoints.frozen}
}

// checkpointNow returns when everything that is published now is in the index file.
func (s *Store) checkpointNow(ctx context.Context) error {
	var number uint64
	for {
		written, moved := s.checkpoints.watch()
		if number > 0 && written >= number {
			return nil
		}
		if err := s.failure(); err != nil {
			return fmt.Errorf("%w: %w", ErrReadOnly, err)
		}
		if number == 0 {
			reply := make(chan freezeReply, 1)
			select {
			case s.freezeNow <- reply:
			case <-s.stopping:
				return ErrClosed
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			r := <-reply
			if r.err != nil {
				return r.err
			}
			if number = r.number; number > 0 {
				continue
			}
		}
		select {
		case <-moved:
		case <-s.dead:
			return s.DeadErr()
		case <-s.stopping:
			return ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Store) checkpointIfDue(csn uint64, tick bool) {
	n := s.idx.OverlayEntries()
	if s.undecided || len(s.committer.owed) > 0 {
		return
	}
	if n == 0 || !tick && n < s.opts.CheckpointEntries && s.idx.OverlayBytes() < s.opts.OverlayBytesMax/4 {
		return
	}
	if s.freeze(csn) {
		select {
		case s.frozen <- struct{}{}:
		default:
		}
	}
}

// waitForOverlay holds the committer back while the overlay is at its bound.
func (s *Store) waitForOverlay(csn uint64) error {
	deadline := time.NewTimer(busyTimeout)
	defer deadline.Stop()
	for s.idx.OverlayBytes() >= s.opts.OverlayBytesMax {
		s.checkpointIfDue(csn, true)
		select {
		case <-s.checkpointed:
		case <-deadline.C:
			return fmt.Errorf("%w: the index is behind", ErrBusy)
		case <-s.ctx.Done():
			return ErrClosed
		}
	}
	return nil
}

// checkpointer writes frozen overlays into the index file. It ends when s.frozen is closed.
func (s *Store) checkpointer() {
	for range s.frozen {
		s.writeFrozen()
		select {
		case s.checkpointed <- struct{}{}:
		default:
		}
	}
}

// writeFrozen tries until the overlay is in the file: on a full disk that may be never, and the bound of the overlay holds
// clients back. A damaged file is another matter: nothing can be found without it, so the store dies, and a start builds it anew.
func (s *Store) writeFrozen() {
	for pause := checkpointRetry; ; pause = min(2*pause, 30*time.Second) {
		err := s.checkpoint(s.ctx)
		switch {
		case err == nil:
			s.indexTrouble.Store(nil)
			s.checkpoints.wrote()
			return
		case s.ctx.Err() != nil:
			return
		case isCorruptIndex(err):
			s.indexError(err)
			return
		}
		if s.indexTrouble.Swap(&err) == nil {
			s.opts.Logger.Error("checkpoint failed, it is tried again", slog.Any("error", err))
		}
		select {
		case <-time.After(pause):
		case <-s.stopping:
			return
		}
	}
}

const checkpointRetry = 250 * time.Millisecond

// die ends the store's service: see Dead.
func (s *Store) die(err error) {
	s.deadOnce.Do(func() {
		s.deadErr = err
		close(s.dead)
	})
}

// Dead is closed when the store cannot serve any more, as when the disk of the index died; DeadErr then says why. The
// process should end and be started again: nothing acknowledged is lost, and what is derived is built anew.
func (s *Store) Dead() <-chan struct{} { return s.dead }

// DeadErr returns why Dead was closed.
func (s *Store) DeadErr() error {
	select {
	case <-s.dead:
		return s.deadErr
	default:
		return nil
	}
}

var errGap = errors.New("cas: mutations are missing from the log")
