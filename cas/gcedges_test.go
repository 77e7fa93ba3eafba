package cas

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/casd/casd/erasure"
)

// A part of a segment was out of reach when the cycle began, and is back since: what is named there has no bit, and the segment stays.
func TestSegmentWithMoreThanWasKnown(t *testing.T) {
	disk, paths := faultDisk(t, 3)
	s := gcStore(t, Options{Dirs: paths, FS: disk, IndexDir: t.TempDir(), CacheBytes: 1})
	mustBucket(t, s, "b")
	mustPut(t, s, "b", "k", noise(1, 3<<20))
	mustPut(t, s, "b", "gone", noise(2, 3<<20))
	if _, err := s.Delete(t.Context(), "b", "gone", nil); err != nil {
		t.Fatal(err)
	}
	o, err := s.Get(t.Context(), GetRequest{Bucket: "b", Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	_, refs, err := decodeNode(o.row.Content.Root)
	if err != nil {
		t.Fatal(err)
	}
	c, ok, err := s.chunks.LookupChunk(refs[0].id)
	if err != nil || !ok {
		t.Fatal(err)
	}
	id := erasure.Location(c.Location).Segment()
	s.sabotage.at = func(where string) {
		if where == "armed" {
			g := s.pins.cycle.segs[id]
			g.info.Records, g.marked, g.walked = 0, nil, nil
		}
	}
	mustGC(t, s, GCRequest{Threshold: 0.01})
	s.sabotage.at = nil
	mustHave(t, s, "b", "k", noise(1, 3<<20))
}

// The clock was years ahead when the last cycle began.
func TestCycleAfterClockWasSetBack(t *testing.T) {
	now := time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)
	disk, paths := faultDisk(t, 3)
	s := gcStore(t, Options{Dirs: paths, FS: disk, IndexDir: t.TempDir(), Clock: func() time.Time { return now }})
	if err := s.noteCycle(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	s.opts.GCInterval = time.Hour
	if wait := s.untilCycle(); wait > time.Hour {
		t.Errorf("the next cycle is due in %v", wait)
	}
}

// An upload that nothing happened to for long gets a part just when it is to be removed: it stays, and so does the part.
func TestUploadIsUsedWhileItExpires(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	disk, paths := faultDisk(t, 3)
	s := gcStore(t, Options{Dirs: paths, FS: disk, IndexDir: t.TempDir(), UploadExpiry: time.Hour, Clock: func() time.Time { return now }})
	mustBucket(t, s, "b")
	u, err := s.CreateUpload(t.Context(), CreateUploadRequest{Bucket: "b", Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Hour)
	s.sabotage.at = func(where string) {
		if where != "expiring" {
			return
		}
		s.sabotage.at = nil
		if _, err := s.PutPart(t.Context(), PartRequest{Bucket: "b", Key: "k", UploadID: u.ID, Number: 1, Body: bytes.NewReader(noise(1, 5000))}); err != nil {
			t.Error(err)
		}
	}
	if r := mustGC(t, s, GCRequest{}); r.UploadsExpired != 0 || s.sabotage.at != nil {
		t.Errorf("%d uploads expired", r.UploadsExpired)
	}
	if _, err := s.ListParts(t.Context(), PartListRequest{Bucket: "b", Key: "k", UploadID: u.ID, Max: 10}); err != nil {
		t.Errorf("the upload: %v", err)
	}
	now = now.Add(2 * time.Hour)
	if r := mustGC(t, s, GCRequest{}); r.UploadsExpired != 1 {
		t.Errorf("%d uploads expired", r.UploadsExpired)
	}
	if _, err := s.Upload(t.Context(), "b", "k", u.ID); !errors.Is(err, ErrNoSuchUpload) {
		t.Error(err)
	}
}
