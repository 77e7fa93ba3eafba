package cas

import (
	"bytes"
	"errors"
	"testing"

	"github.com/casd/casd/index"
)

func TestRecordsGolden(t *testing.T) {
	l := chunkLabel{enc: encZstd, domain: 1, size: 131072, id: leafRef(1, 1).id}
	d := chunkLabel{enc: encDelta, domain: 7, size: 99, id: leafRef(2, 1).id, base: leafRef(3, 1).id}
	golden(t, "chunk_label_v1.golden", appendChunkLabel(appendChunkLabel(nil, l), d))
	m := mutation{CSN: 42, Time: 1_700_000_000_123_456_789, Ops: []index.Op{
		{Table: index.Objects, Key: []byte("k"), Value: []byte("v")}, {Table: index.Parts, Key: []byte("gone"), Delete: true}}}
	label, body, err := encodeMutation(m)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "mutation_v1.golden", append(label, body...))
	rows := []any{
		bucketRow{Created: 1, Owner: "o", Region: "eu-west-1", Domain: 1},
		domainRow{Key: bytes.Repeat([]byte{7}, 32), Created: 2},
		usageRow{1, 2, 3, 4},
		verdictRow{Stripes: 9, Digest: bytes.Repeat([]byte{1}, 16)},
		versionRow{Content: content{Size: 600, Domain: 1, Root: []byte{1, 0}}, Modified: 5, Attributes: attributesRow{ETag: "e", Checksum: &checksumRow{"CRC32", "FULL_OBJECT", "x=="},
			ContentType: "a/b", Headers: map[string]string{"Expires": "0"}, Metadata: map[string]string{"a": "b"}, StorageClass: "STANDARD", Owner: "o"},
			Parts: []partEntry{{Number: 1, Size: 2, ETag: "p", Checksum: "c"}}, PartTable: []byte{1}, PartCount: 1, UploadID: "u", TableSize: 3},
		versionRow{Content: content{Size: 1, Domain: 1, Inline: []byte("x")}, Modified: 6},
		uploadRow{Initiated: 1, Domain: 1},
		partRow{Content: content{Size: 1, Domain: 1, Inline: []byte("x")}, ETag: "e", Checksum: &checksumRow{Algorithm: "SHA256"}, Modified: 3},
	}
	var all []byte
	for _, r := range rows {
		b, err := encodeRow(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	golden(t, "rows_v1.golden", all)
}

// Rows of buckets with versions, which came later: rows without them are as they were.
func TestVersionRowsGolden(t *testing.T) {
	var all []byte
	for _, r := range []any{
		bucketRow{Created: 1, Domain: 1, Versioning: VersioningEnabled},
		bucketRow{Created: 1, Domain: 1, Versioning: VersioningSuspended},
		versionRow{Content: content{Size: 1, Domain: 1, Inline: []byte("x")}, Modified: 6, Own: true, Null: 7},
		versionRow{Modified: 6, Own: true, Marker: true, Attributes: attributesRow{Owner: "o"}},
		versionRow{Modified: 6, Marker: true},
	} {
		b, err := encodeRow(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	golden(t, "version_rows_v1.golden", all)
}

func TestSnapshotGolden(t *testing.T) {
	var all []byte
	for _, r := range []any{
		snapshotHeader{Version: snapshotVersion, CSN: 42, Time: 1_700_000_000_123_456_789},
		snapshotRows{Table: index.Objects, Rows: []snapshotItem{{Key: []byte("k"), Value: []byte("v"), Rev: 7}}},
		snapshotEnd{Rows: map[index.Table]uint64{index.Objects: 1, index.Meta: 2}},
		snapshotRow{Segment: 9, CSN: 42, Rows: 3, Written: 5},
		segmentRow{Dropped: 6},
		gcStateRow{Began: 8},
	} {
		b, err := cborEnc.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	golden(t, "snapshot_v1.golden", all)
}

func FuzzDecodeChunkLabel(f *testing.F) {
	f.Add(appendChunkLabel(nil, chunkLabel{enc: encPlain, size: 5}))
	f.Add(appendChunkLabel(nil, chunkLabel{enc: encDelta, size: 5}))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := decodeChunkLabel(b)
		if err == nil && !bytes.Equal(appendChunkLabel(nil, l), b) {
			t.Fatalf("decode accepted a label that is not canonical: %x", b)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("error %v is not ErrCorrupt", err)
		}
	})
}

func FuzzDecodeMutation(f *testing.F) {
	label, body, _ := encodeMutation(mutation{CSN: 1, Time: 2, Ops: []index.Op{{Table: 1, Key: []byte("k"), Value: []byte("v")}}})
	f.Add(label, body)
	f.Fuzz(func(t *testing.T, label, body []byte) {
		m, err := decodeMutation(label, body)
		if err == nil && m.CSN == 0 {
			t.Fatal("a mutation without CSN was accepted")
		}
	})
}
