package erasure

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew; for a new format version only")

// golden compares b with a file in testdata.
func golden(t *testing.T, name string, b []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, want) {
		t.Fatalf("%s changed on disk:\ngot  %x\nwant %x", name, b, want)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func filled(c byte) (id id16) {
	for i := range id {
		id[i] = c + byte(i)
	}
	return id
}

func goldenHeader() header {
	return header{class: Data, k: 4, m: 2, index: 5, store: filled(0x10), segment: 0x0102030405060708, nonce: filled(0x20), stripe: 7, seq: 0x1112131415161718,
		payload: 1000, table: 100, records: 3, ordinal: 42, shard: shardBytes(1000, 4), sum: filled(0x30), digest: filled(0x40), prev: filled(0x50),
		marks: [2]mark{{9, 11}, {10, 12}}, writer: filled(0x60), tableSum: 0x2122232425262728}
}

func goldenFooter() footer {
	return footer{class: Metadata, k: 4, m: 2, index: 3, store: filled(0x10), segment: 9, nonce: filled(0x20), stripes: 5, records: 17, payload: 123456, stored: 10 * blockBytes,
		firstSeq: 3, lastSeq: 8, digest: filled(0x30), dirBlock: 6, dirStripes: 2, dirDigest: filled(0x40)}
}

func TestHeaderGolden(t *testing.T) {
	b := make([]byte, headerBytes)
	h := goldenHeader()
	h.encode(b)
	golden(t, "header_v1.golden", b)
	if got, err := decodeHeader(b); err != nil || got != h {
		t.Fatalf("decoded %+v, %v", got, err)
	}
}

func TestFooterGolden(t *testing.T) {
	b := make([]byte, blockBytes)
	f := goldenFooter()
	f.encode(b)
	golden(t, "footer_v1.golden", b)
	if got, err := decodeFooter(b); err != nil || got != f {
		t.Fatalf("decoded %+v, %v", got, err)
	}
}

func TestDirectoryGolden(t *testing.T) {
	table := appendTableEntry(appendTableEntry(nil, tableEntry{1, []byte("one"), 10}), tableEntry{2, nil, 0})
	st := infoOfHeader(goldenHeader(), 77)
	st.table, st.tableSum, st.records, st.payload = uint32(len(table)), xxh3.Hash(table), 2, uint32(len(table))+2*frameBytes+10
	b := appendDirEntry(nil, dirEntry{st, table})
	b = appendDirEntry(b, dirEntry{st, table})
	golden(t, "directory_v1.golden", b)
	got, err := decodeDirectory(b)
	if err != nil || len(got) != 2 || got[1].stripeInfo != st || !bytes.Equal(got[1].tableBytes, table) {
		t.Fatalf("decoded %+v, %v", got, err)
	}
}

func TestLocationGolden(t *testing.T) {
	p := place{0x0102030405060708, 0x11121314, 0x21222324, 0x31323334, 0x41424344, 0x51525354}
	loc := p.location()
	golden(t, "location_v1.golden", loc[:])
	if loc.place() != p || loc.Segment() != p.segment || loc.Ordinal() != p.ordinal || loc.BodyBytes() != int(p.body) {
		t.Fatal("a location does not give back what it was made of")
	}
}

// TestStripeGolden pins the payload, the cut into shards and the parity.
func TestStripeGolden(t *testing.T) {
	l := &Log{store: filled(0x10), writer: filled(0x60), metrics: must(newMetrics(nil, nil))}
	o := &openSegment{segment: &segment{id: 5, class: Metadata, known: true, k: 3, m: 2, nonce: filled(0x20)}}
	b := &builder{}
	b.add(&record{kind: 1, label: []byte("label"), body: []byte("body of the first record")})
	b.add(&record{kind: 2, body: bytes.Repeat([]byte{0xaa, 0x55, 0}, 100)})
	o.next = stripeInfo{number: 2, block: 3, ordinal: 4}
	o.prev = filled(0x70)
	cs := l.put(o, b)
	h := l.headerOf(o, cs)
	bufs, err := l.encode(o, &h, cs.fill(o))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "stripe_v1.golden", bytes.Join(bufs, nil))
	entries, err := decodeTable(cs.entries, cs.records, cs.payload)
	if err != nil || len(entries) != 2 || string(entries[0].label) != "label" || entries[1].body != 300 {
		t.Fatalf("table %+v, %v", entries, err)
	}
}

func goldenFormat() format {
	return format{Magic: formatMagic, Version: formatVersion, Store: filled(0x10).String(), Dir: filled(0x20).String(), K: 1, M: 1,
		Members: []Member{{ID: filled(0x20).String(), Path: "/a"}, {ID: filled(0x30).String(), Path: "/b <c>"}}, Created: "2026-01-02T03:04:05Z", Params: json.RawMessage(`{"a": [1, "<"]}`)}
}

func TestFormatGolden(t *testing.T) {
	b, err := goldenFormat().encode()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "format_v1.golden", b)
	f, err := decodeFormat(b)
	if err != nil || len(f.Members) != 2 || f.Members[1].Path != "/b <c>" || !json.Valid(f.Params) {
		t.Fatalf("decoded %+v, %v", f, err)
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 4
		if g, err := decodeFormat(c); err == nil {
			g.Checksum, f.Checksum = "", ""
			if x, _ := json.Marshal(g); !bytes.Equal(x, must(json.Marshal(f))) {
				t.Fatalf("byte %d may be flipped", i)
			}
		}
	}
	f.Version++
	if b, err = f.encode(); err != nil {
		t.Fatal(err)
	}
	if _, err := decodeFormat(b); !errors.Is(err, errNewer) {
		t.Fatalf("newer version: %v", err)
	}
}

// TestFlippedBits checks that no single bit of a header or footer can be flipped.
func TestFlippedBits(t *testing.T) {
	h, f := make([]byte, headerBytes), make([]byte, blockBytes)
	goldenHeader().encode(h)
	goldenFooter().encode(f)
	for i := range 8 * headerBytes {
		h[i/8] ^= 1 << (i % 8)
		if _, err := decodeHeader(h); err == nil {
			t.Fatalf("bit %d of the header", i)
		}
		h[i/8] ^= 1 << (i % 8)
	}
	for i := range 8 * blockBytes {
		f[i/8] ^= 1 << (i % 8)
		if _, err := decodeFooter(f); err == nil {
			t.Fatalf("bit %d of the footer", i)
		}
		f[i/8] ^= 1 << (i % 8)
	}
}

func TestShardNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := SegmentID(rapid.Uint64Min(1).Draw(t, "id"))
		c := rapid.SampledFrom([]Class{Metadata, Data, Snapshot}).Draw(t, "class")
		i := rapid.IntRange(0, shardsMax-1).Draw(t, "shard")
		if id2, c2, i2, ok := parseShardName(shardName(id, c, i)); !ok || id2 != id || c2 != c || i2 != i {
			t.Fatalf("%v %v %v %v", id2, c2, i2, ok)
		}
	})
	for _, bad := range []string{"", "0000000000000000.m.00", "000000000000000A.m.00", "0000000000000001.x.00", "0000000000000001.m.16", "0000000000000001.m.+1", "0000000000000001.m.00.tmp"} {
		if _, _, _, ok := parseShardName(bad); ok {
			t.Fatalf("%q is taken for a shard file", bad)
		}
	}
}

func TestShardBytesKeepsSmallStripesInOneBlock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payload, k := rapid.Uint32Range(1, payloadMax).Draw(t, "payload"), rapid.IntRange(1, shardsMax).Draw(t, "k")
		n := shardBytes(payload, k)
		exact := (uint64(payload) + uint64(k) - 1) / uint64(k)
		if uint64(n)*uint64(k) < uint64(payload) || n%64 != 0 {
			t.Fatalf("%d shards of %d bytes for %d", k, n, payload)
		}
		if storedBytes(n) != roundUp(int64(exact)+headerBytes, blockBytes) {
			t.Fatalf("rounding up to 64 costs a block")
		}
	})
}

func FuzzDecodeHeader(f *testing.F) {
	b := make([]byte, headerBytes)
	goldenHeader().encode(b)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHeader(b)
		if err != nil {
			return
		}
		again := make([]byte, headerBytes)
		h.encode(again)
		if !bytes.Equal(again, b[:headerBytes]) {
			t.Fatalf("accepted %x", b)
		}
	})
}

func FuzzDecodeFooter(f *testing.F) {
	b := make([]byte, blockBytes)
	goldenFooter().encode(b)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		foot, err := decodeFooter(b)
		if err != nil {
			return
		}
		again := make([]byte, blockBytes)
		foot.encode(again)
		if !bytes.Equal(again, b[:blockBytes]) {
			t.Fatalf("accepted %x", b)
		}
	})
}

func FuzzDecodeTable(f *testing.F) {
	f.Add(appendTableEntry(appendTableEntry(nil, tableEntry{1, []byte("one"), 10}), tableEntry{2, nil, 0}), uint32(2), uint32(57))
	f.Fuzz(func(t *testing.T, b []byte, records, payload uint32) {
		entries, err := decodeTable(b, records, payload)
		if err != nil {
			return
		}
		var again []byte
		for _, e := range entries {
			again = appendTableEntry(again, e)
		}
		if !bytes.Equal(again, b) || len(entries) != int(records) {
			t.Fatalf("accepted %x", b)
		}
	})
}

func FuzzDecodeDirectory(f *testing.F) {
	if b, err := os.ReadFile("testdata/directory_v1.golden"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := decodeDirectory(b)
		if err != nil {
			return
		}
		var again []byte
		for _, e := range entries {
			again = appendDirEntry(again, e)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("accepted %x", b)
		}
	})
}

func FuzzDecodeFrame(f *testing.F) {
	fh := frameHeader(3, 4, []byte("body"))
	f.Add(append(fh[:], "body"...), uint64(3), uint32(4))
	f.Fuzz(func(t *testing.T, b []byte, segment uint64, ordinal uint32) {
		body, err := decodeFrame(b, SegmentID(segment), ordinal)
		if err != nil {
			return
		}
		fh := frameHeader(SegmentID(segment), ordinal, body)
		if !bytes.Equal(append(fh[:], body...), b) {
			t.Fatalf("accepted %x", b)
		}
	})
}

func FuzzDecodeFormat(f *testing.F) {
	f.Add(must(goldenFormat().encode()))
	f.Fuzz(func(t *testing.T, b []byte) {
		form, err := decodeFormat(b)
		if err != nil {
			return
		}
		again, err := form.encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeFormat(again); err != nil || back.Store != form.Store || len(back.Members) != len(form.Members) {
			t.Fatalf("accepted %q, which does not survive: %v", b, err)
		}
	})
}
