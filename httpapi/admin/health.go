package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/casd/casd/cas"
)

const (
	// statusAgeMax is how old the status may be that a readiness check shows: anybody may send those, as often as they like.
	statusAgeMax = time.Second
	// statusWait is how long a readiness check waits for the status: a directory that hangs must not take the check with it.
	statusWait = 2 * time.Second
	// reasonsMax bounds the reasons that are shown.
	reasonsMax = 16
)

// readiness is what /readyz answers.
type readiness struct {
	Status  string   `json:"status"` // ok, degraded, read-only, not ready
	Reasons []string `json:"reasons"`
}

func (a *API) healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (a *API) readyz(w http.ResponseWriter, r *http.Request) {
	ready, status := a.readiness(r.Context()), http.StatusOK
	strict := r.URL.Query().Get("strict")
	if ready.Status == "not ready" || ready.Status == "read-only" && strict != "" && strict != "0" && strict != "false" {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, ready)
}

func (a *API) readiness(ctx context.Context) readiness {
	if err := a.o.Store.Ready(); err != nil {
		return readiness{"not ready", []string{err.Error()}}
	}
	write := a.o.Store.WriteState()
	st, err := a.health.get(ctx, a.o.Store)
	ready := readiness{st.State, slices.Clone(st.Reasons)}
	if err != nil {
		ready = readiness{"degraded", []string{"status: " + err.Error()}}
	}
	if write != nil {
		ready.Status = "read-only"
		if len(ready.Reasons) == 0 || err != nil {
			ready.Reasons = append([]string{write.Error()}, ready.Reasons...)
		}
	}
	if ready.Reasons == nil {
		ready.Reasons = []string{}
	}
	ready.Reasons = ready.Reasons[:min(len(ready.Reasons), reasonsMax)]
	return ready
}

// health keeps the last status for a moment. At most one call for it is under way.
type health struct {
	mu      sync.Mutex
	at      time.Time
	status  cas.Status
	err     error
	pending chan struct{} // closed when the call under way has ended; nil without one
}

var errStatusLate = errors.New("it takes long; a data directory may hang")

// get returns a status that is at most statusAgeMax old, or an error after statusWait.
func (h *health) get(ctx context.Context, s Store) (cas.Status, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, statusWait, errStatusLate)
	defer cancel()
	for {
		h.mu.Lock()
		if h.pending == nil && time.Since(h.at) < statusAgeMax {
			defer h.mu.Unlock()
			return h.status, h.err
		}
		if h.pending == nil {
			h.pending = make(chan struct{})
			go h.ask(s)
		}
		pending := h.pending
		h.mu.Unlock()
		select {
		case <-pending:
		case <-ctx.Done():
			return cas.Status{}, context.Cause(ctx)
		}
	}
}

// ask is not bound to the request that caused it: others wait for it too.
func (h *health) ask(s Store) {
	st, err := s.Status(context.Background())
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at, h.status, h.err = time.Now(), st, err
	close(h.pending)
	h.pending = nil
}
