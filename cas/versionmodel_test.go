package cas

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A modelVersion is one version of a key in a plain model, which keeps them in a slice, newest first.
type modelVersion struct {
	id     string
	size   int64
	marker bool
}

type versionModel struct {
	state Versioning
	keys  map[string][]modelVersion
	gone  []string // IDs that were removed
}

// write does what a put or a marker does to the versions of a key.
func (m *versionModel) write(key string, v modelVersion) {
	vs := m.keys[key]
	if m.state != VersioningEnabled {
		vs = slices.DeleteFunc(vs, func(v modelVersion) bool { return v.id == nullVersion })
	}
	m.keys[key] = slices.Insert(vs, 0, v)
}

func (m *versionModel) names() (keys []string) {
	for k, vs := range m.keys {
		if len(vs) > 0 {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// listing is what lists say, grouped by delimiter: of all versions, or of the current objects.
func (m *versionModel) listing(prefix, delimiter string, all bool) (out []string) {
	last := ""
	for _, k := range m.names() {
		if !strings.HasPrefix(k, prefix) {
			continue
		}
		if i := strings.Index(k[len(prefix):], delimiter); delimiter != "" && i >= 0 {
			p := k[:len(prefix)+i+len(delimiter)]
			if p != last && (all || !m.keys[k][0].marker) {
				out, last = append(out, p), p
			}
			continue
		}
		for i, v := range m.keys[k] {
			switch {
			case all:
				out = append(out, fmt.Sprint(k, v.id, v.size, v.marker, i == 0))
			case i == 0 && !v.marker:
				out = append(out, fmt.Sprint(k, v.id, v.size))
			}
		}
	}
	return out
}

// TestVersionModel does random things to a few keys in a bucket that changes its versioning, and compares everything that can be asked with the model.
func TestVersionModel(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue { // a soak says how many
		if err := f.Value.Set("20"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Value.Set(f.DefValue) })
	}
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		o := Options{Dirs: []string{filepath.Join(dir, "d")}, IndexDir: filepath.Join(dir, "i"), SegmentBytes: 2 << 20}
		for _, d := range []string{o.Dirs[0], o.IndexDir} {
			if err := os.Mkdir(d, 0o755); err != nil {
				rt.Fatal(err)
			}
		}
		s := openStore(t, o)
		defer func() { _ = s.Close(t.Context()) }()
		mustBucket(t, s, "b")
		m := &versionModel{keys: map[string][]modelVersion{}}
		drawKey := func(rt *rapid.T) string {
			return rapid.SampledFrom([]string{"a", "a/b", "a/c", "b", "b\x00"}).Draw(rt, "key")
		}
		drawID := func(rt *rapid.T, key string) string {
			ids := []string{nullVersion}
			for _, v := range m.keys[key] {
				ids = append(ids, v.id)
			}
			return rapid.SampledFrom(append(ids, m.gone...)).Draw(rt, "id")
		}
		own := func(rt *rapid.T, id string) {
			if (id != nullVersion) != (m.state == VersioningEnabled) {
				rt.Fatalf("ID %s in state %q", id, m.state)
			}
		}
		size := 0
		rt.Repeat(map[string]func(*rapid.T){
			"state": func(rt *rapid.T) {
				to := rapid.SampledFrom([]Versioning{VersioningEnabled, VersioningSuspended}).Draw(rt, "to")
				if err := s.SetVersioning(t.Context(), "b", to); err != nil {
					rt.Fatal(err)
				}
				m.state = to
			},
			"put": func(rt *rapid.T) {
				key := drawKey(rt)
				size++
				i, err := putBytes(t.Context(), s, "b", key, make([]byte, size), nil)
				if err != nil {
					rt.Fatal(err)
				}
				own(rt, i.VersionID)
				m.write(key, modelVersion{id: i.VersionID, size: int64(size)})
			},
			"copy": func(rt *rapid.T) {
				from, to := drawKey(rt), drawKey(rt)
				id := drawID(rt, from)
				i, err := s.Copy(t.Context(), CopyRequest{SourceBucket: "b", SourceKey: from, SourceVersion: id, Bucket: "b", Key: to,
					Attributes: func(o ObjectInfo) (Attributes, error) { return o.Attributes, nil }})
				at := slices.IndexFunc(m.keys[from], func(v modelVersion) bool { return v.id == id })
				switch {
				case at < 0:
					if !errors.Is(err, ErrNoSuchVersion) {
						rt.Fatal(err)
					}
				case m.keys[from][at].marker:
					if !errors.Is(err, ErrDeleteMarker) {
						rt.Fatal(err)
					}
				case err != nil || i.Size != m.keys[from][at].size:
					rt.Fatal(i, err)
				default:
					own(rt, i.VersionID)
					m.write(to, modelVersion{id: i.VersionID, size: i.Size})
				}
			},
			"delete": func(rt *rapid.T) {
				key := drawKey(rt)
				r, err := s.DeleteVersion(t.Context(), DeleteRequest{Bucket: "b", Key: key})
				vs := m.keys[key]
				if found := len(vs) > 0 && !vs[0].marker; err != nil || r.Found != found || r.Marker != (m.state != Unversioned) {
					rt.Fatal(r, err)
				}
				if m.state == Unversioned {
					m.keys[key] = nil
					return
				}
				own(rt, r.VersionID)
				m.write(key, modelVersion{id: r.VersionID, marker: true})
			},
			"delete version": func(rt *rapid.T) {
				key := drawKey(rt)
				id := drawID(rt, key)
				r, err := s.DeleteVersion(t.Context(), DeleteRequest{Bucket: "b", Key: key, VersionID: id})
				at := slices.IndexFunc(m.keys[key], func(v modelVersion) bool { return v.id == id })
				if err != nil || r.Found != (at >= 0) || r.Marker != (at >= 0 && m.keys[key][at].marker) || r.VersionID != id {
					rt.Fatal(r, err)
				}
				if at >= 0 {
					m.keys[key] = slices.Delete(m.keys[key], at, at+1)
					if id != nullVersion {
						m.gone = append(m.gone, id)
					}
				}
			},
			"start": func(rt *rapid.T) {
				closeStore(t, s)
				if rapid.Bool().Draw(rt, "rebuild") {
					if err := os.Remove(filepath.Join(o.IndexDir, "catalog.bolt")); err != nil {
						rt.Fatal(err)
					}
				}
				s = openStore(t, o)
			},
			"": func(rt *rapid.T) { m.check(t, rt, s) },
		})
	})
}

// check asks for everything: each version by its ID, lists in small pages, and the counters.
func (m *versionModel) check(t *testing.T, rt *rapid.T, s *Store) {
	var objects, bytes int64
	for _, key := range m.names() {
		for i, v := range m.keys[key] {
			bytes += v.size
			got, err := s.Stat(t.Context(), GetRequest{Bucket: "b", Key: key, VersionID: v.id})
			if v.marker != errors.Is(err, ErrDeleteMarker) || !v.marker && (err != nil || got.Size != v.size || got.VersionID != v.id || got.Versioned != (m.state != Unversioned)) {
				rt.Fatalf("%s %+v: %+v, %v", key, v, got, err)
			}
			if i > 0 {
				continue
			}
			got, err = s.Stat(t.Context(), GetRequest{Bucket: "b", Key: key})
			if v.marker != errors.Is(err, ErrNoSuchKey) || !v.marker && (err != nil || got.VersionID != v.id) {
				rt.Fatalf("%s %+v: %+v, %v", key, v, got, err)
			}
			if !v.marker {
				objects++
			}
		}
	}
	if st := stats(t, s); st.Objects != objects || st.LogicalBytes != bytes {
		rt.Fatalf("%d objects of %d bytes, want %d, %d", st.Objects, st.LogicalBytes, objects, bytes)
	}
	prefix := rapid.SampledFrom([]string{"", "a", "a/"}).Draw(rt, "prefix")
	delimiter := rapid.SampledFrom([]string{"", "/"}).Draw(rt, "delimiter")
	limit := rapid.IntRange(1, 4).Draw(rt, "max")
	var got []string
	for q := (VersionListRequest{Bucket: "b", Prefix: prefix, Delimiter: delimiter, Max: limit}); ; {
		l, err := s.ListVersions(t.Context(), q)
		if err != nil || len(l.Items) > limit {
			rt.Fatal(l, err)
		}
		for _, it := range l.Items {
			if o := &it.Object; it.Prefix != "" {
				got = append(got, it.Prefix)
			} else {
				got = append(got, fmt.Sprint(o.Key, o.VersionID, o.Size, it.Marker, it.Latest))
			}
		}
		if q.AfterKey, q.AfterID, q.SkipAfterPrefix = l.NextKey, l.NextID, l.NextIsPrefix; !l.Truncated {
			break
		}
	}
	if want := m.listing(prefix, delimiter, true); !slices.Equal(got, want) {
		rt.Fatalf("versions (%q %q %d)\n%q, want\n%q", prefix, delimiter, limit, got, want)
	}
	got = nil
	for q := (ListRequest{Bucket: "b", Prefix: prefix, Delimiter: delimiter, Max: limit}); ; {
		l, err := s.List(t.Context(), q)
		if err != nil || len(l.Items) > limit {
			rt.Fatal(l, err)
		}
		for _, it := range l.Items {
			if o := &it.Object; it.Prefix != "" {
				got = append(got, it.Prefix)
			} else {
				got = append(got, fmt.Sprint(o.Key, o.VersionID, o.Size))
			}
		}
		if q.After, q.SkipAfterPrefix = l.Next, l.NextIsPrefix; !l.Truncated {
			break
		}
	}
	if want := m.listing(prefix, delimiter, false); !slices.Equal(got, want) {
		rt.Fatalf("objects (%q %q %d)\n%q, want\n%q", prefix, delimiter, limit, got, want)
	}
}
