package cas

import (
	"bytes"
	"github.com/casd/casd/index"
	"os"
	"testing"
)

func TestWriteGolden(t *testing.T) {
	os.MkdirAll("testdata", 0o755)
	w := func(n string, b []byte) { os.WriteFile("testdata/"+n, b, 0o644) }
	w("node_v1.golden", goldenNodes())
	l := chunkLabel{enc: encZstd, domain: 1, size: 131072, id: leafRef(1, 1).id}
	d := chunkLabel{enc: encDelta, domain: 7, size: 99, id: leafRef(2, 1).id, base: leafRef(3, 1).id}
	w("chunk_label_v1.golden", appendChunkLabel(appendChunkLabel(nil, l), d))
	m := mutation{CSN: 42, Time: 1_700_000_000_123_456_789, Ops: []index.Op{
		{Table: index.Objects, Key: []byte("k"), Value: []byte("v")}, {Table: index.Parts, Key: []byte("gone"), Delete: true}}}
	label, body, _ := encodeMutation(m)
	w("mutation_v1.golden", append(label, body...))
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
		b, _ := encodeRow(r)
		all = append(all, b...)
	}
	w("rows_v1.golden", all)
}
