package cas

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/casd/casd/index"
)

const (
	rebuildSuffix = ".new" // of an index that is being built anew; one that is left over is removed by the next attempt
	asideSuffix   = ".old" // of the one that it takes the place of

	rebuildTellInterval = 250 * time.Millisecond // between two tellings of progress
)

// A rebuild is what RebuildIndex asks of Open.
type rebuild struct {
	path     string // of the index that counts
	progress ProgressFunc
	now      Progress
	told     time.Time
}

// RebuildIndex builds the index of a stopped store anew from the log, beside the old one, and then puts it in its place. The old one is kept
// under its name with ".old". Whatever fails or is interrupted before that leaves the old index as it was. Errors: ErrInUse; ErrIncomplete when so many directories
// are away that the log cannot be read to its end or cannot be written: the old index may know more than it.
func RebuildIndex(ctx context.Context, o Options, progress ProgressFunc) error {
	o.NoCreate, o.OnDemand, o.ScrubInterval, o.GCInterval = true, true, 0, 0
	o.rebuild = &rebuild{progress: progress}
	s, err := Open(ctx, o)
	if errors.Is(err, ErrReadOnly) { // what a store needs to open at all is out of reach
		return fmt.Errorf("cas: rebuild the index: %w: %w; the old index stays", ErrIncomplete, err)
	}
	if err != nil {
		return err
	}
	incomplete := s.incomplete || s.undecided
	trouble := s.WriteState()
	if err := s.Close(ctx); err != nil {
		return fmt.Errorf("cas: rebuild the index: %w", err)
	}
	if incomplete {
		return fmt.Errorf("cas: rebuild the index: %w: %w; the old index stays", ErrIncomplete, trouble)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// The store is not locked any more. Should another process have opened the old index meanwhile it goes on with that file under its new
	// name, and what it adds is found in the log by whoever opens the new index.
	path := o.rebuild.path
	switch err := index.Rename(path, path+asideSuffix); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	}
	return index.Rename(path+rebuildSuffix, path)
}

// begin makes the store build its index beside the one that counts.
func (r *rebuild) begin(s *Store) error {
	r.path = s.indexPath
	s.indexPath += rebuildSuffix
	r.now = Progress{Operation: "rebuild-index", Unit: "items", Began: s.opts.Clock()}
	for _, seg := range s.log.Segments() {
		r.now.Total += int64(seg.Records)
	}
	if _, err := os.Stat(s.indexPath); err == nil {
		return index.Remove(s.indexPath)
	}
	return nil
}

// tell tells how many records were replayed. A nil r tells nobody.
func (r *rebuild) tell(done int) {
	if r == nil || r.progress == nil || time.Since(r.told) < rebuildTellInterval {
		return
	}
	r.told = time.Now()
	r.now.Done = int64(done)
	r.progress(r.now)
}
