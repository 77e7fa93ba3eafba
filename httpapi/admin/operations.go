package admin

import (
	"context"
	"math"
	"net/http"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/reqlog"
)

// receiptsDefault and receiptsMax are how many receipts one answer has: each may list a thousand findings.
const (
	receiptsDefault = 10
	receiptsMax     = 100
)

// work is one operation with its parameters; its result goes out as JSON.
type work func(ctx context.Context, s Store, progress cas.ProgressFunc) (any, error)

// An operation is what a POST does.
type operation struct {
	name     string // in the access log and in metrics
	progress string // as in cas.Progress, for streams whose operation has not told any yet
	parse    func(f *form) work
}

// operations by path.
var operations = map[string]operation{
	"/-/scrub":        {"AdminScrub", "scrub", parseScrub},
	"/-/gc":           {"AdminGC", "gc", parseGC},
	"/-/check":        {"AdminCheck", "check", parseCheck},
	"/-/rebalance":    {"AdminRebalance", "rebalance", parseRebalance},
	"/-/dirs/add":     {"AdminAddDir", "add", parseAddDir},
	"/-/dirs/replace": {"AdminReplaceDir", "replace", parseReplaceDir},
	"/-/dirs/drain":   {"AdminDrainDir", "drain", parseDrainDir},
	"/-/dirs/remove":  {"AdminRemoveDir", "remove", parseRemoveDir},
}

func parseScrub(f *form) work {
	r := cas.ScrubRequest{
		Level:    cas.ScrubLevel(f.oneOf("level", string(cas.ScrubShards), string(cas.ScrubChunks), string(cas.ScrubDeep))),
		NoRepair: !f.flag("repair", true),
		Rate:     f.number("rate", 0, 0, math.MaxInt64),
	}
	return func(ctx context.Context, s Store, progress cas.ProgressFunc) (any, error) {
		r.Progress = progress
		return s.Scrub(ctx, r)
	}
}

func parseGC(f *form) work {
	r := cas.GCRequest{
		DryRun:    f.flag("dry_run", false),
		Threshold: f.fraction("threshold"),
		Recode:    f.oneOf("recode", "ec") == "ec",
		Rate:      f.number("rate", 0, 0, math.MaxInt64),
	}
	return func(ctx context.Context, s Store, progress cas.ProgressFunc) (any, error) {
		r.Progress = progress
		return s.GC(ctx, r)
	}
}

func parseCheck(f *form) work {
	r := cas.CheckRequest{Rate: f.number("rate", 0, 0, math.MaxInt64)}
	return func(ctx context.Context, s Store, progress cas.ProgressFunc) (any, error) {
		r.Progress = progress
		return s.Check(ctx, r)
	}
}

func parseRebalance(*form) work {
	return func(ctx context.Context, s Store, progress cas.ProgressFunc) (any, error) {
		moved, err := s.Rebalance(ctx, progress)
		return map[string]int64{"moved": moved}, err
	}
}

func parseAddDir(f *form) work {
	path := f.path()
	return func(ctx context.Context, s Store, _ cas.ProgressFunc) (any, error) { return s.AddDir(ctx, path) }
}

func parseReplaceDir(f *form) work {
	dir, path := f.dir(), f.path()
	return func(ctx context.Context, s Store, progress cas.ProgressFunc) (any, error) {
		return s.ReplaceDir(ctx, dir, path, progress)
	}
}

func parseDrainDir(f *form) work {
	dir := f.dir()
	return func(ctx context.Context, s Store, progress cas.ProgressFunc) (any, error) {
		return s.DrainDir(ctx, dir, progress)
	}
}

func parseRemoveDir(f *form) work {
	dir, lost := f.dir(), f.flag("lost", false)
	return func(ctx context.Context, s Store, _ cas.ProgressFunc) (any, error) {
		return struct{}{}, s.RemoveDir(ctx, dir, lost)
	}
}

// query answers a GET with what ask returns.
func (a *API) query(ask func(ctx context.Context, s Store, f *form) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		e := reqlog.From(r.Context())
		v, err := ask(r.Context(), a.o.Store, readForm(r))
		if err != nil {
			failWith(w, e, err)
			return
		}
		writeJSON(w, http.StatusOK, v)
	}
}

func status(ctx context.Context, s Store, f *form) (any, error) {
	if err := f.done(); err != nil {
		return nil, err
	}
	return s.Status(ctx)
}

func dirs(ctx context.Context, s Store, f *form) (any, error) {
	if err := f.done(); err != nil {
		return nil, err
	}
	st, err := s.Status(ctx)
	if st.Dirs == nil {
		st.Dirs = []cas.DirStatus{}
	}
	return st.Dirs, err
}

func receipts(ctx context.Context, s Store, f *form) (any, error) {
	max := f.number("max", receiptsDefault, 1, receiptsMax)
	if err := f.done(); err != nil {
		return nil, err
	}
	list, err := s.Receipts(ctx, int(max))
	if list == nil {
		list = []cas.Receipt{}
	}
	return list, err
}
