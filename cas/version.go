package cas

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/zeebo/blake3"

	"github.com/casd/casd/index"
)

// Versions of one key lie newest first under ObjectKey(bucket, key, CSN). At most one of them is the null version: the one
// that was written while its bucket was unversioned or suspended. Every other has an ID of its own, made of its CSN.
//
// The null version is found without a walk by what the newest row of the key says in versionRow.Null: the CSN of the null version
// that lay below when the row was written. A null version that is older than a row was there when the row was written, and a
// newer one would lie above it; so the field of the newest row names the null version, or one that is gone, or none. Nothing has to be kept true
// when versions go: whether the row is still there is looked up.

// nullVersion is the ID of the null version.
const nullVersion = "null"

// A versionNamer makes version IDs and knows them again: 16 hex digits of the CSN, so that they sort by time, and 16 of a
// keyed BLAKE3 of it, so that made-up ones are told from ones that are gone. The key is derived from the domain's.
type versionNamer struct{ mac *hasher }

const (
	versionKeyContext = "casd 2026-11 version IDs" // of BLAKE3's key derivation: part of the format
	versionMACBytes   = 8
)

func newVersionNamer(domainKey []byte) (*versionNamer, error) {
	var key [32]byte
	blake3.DeriveKey(versionKeyContext, domainKey, key[:])
	h, err := newHasher(key[:])
	return &versionNamer{mac: h}, err
}

// id names the version that the mutation csn wrote.
func (n *versionNamer) id(csn uint64) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+versionMACBytes), csn)
	mac := n.mac.id(b)
	return hex.EncodeToString(append(b, mac[:versionMACBytes]...))
}

// csn is the inverse of id: ErrInvalidVersion for what is no ID of this store.
func (n *versionNamer) csn(id string) (uint64, error) {
	var b [8]byte
	if len(id) == 2*(8+versionMACBytes) {
		if _, err := hex.Decode(b[:], []byte(id[:16])); err == nil {
			if csn := binary.BigEndian.Uint64(b[:]); n.id(csn) == id {
				return csn, nil
			}
		}
	}
	return 0, fmt.Errorf("%w: %q", ErrInvalidVersion, id)
}

// A version is one row of a key, or the place where there is none.
type version struct {
	ok          bool
	bucket, key string
	versioned   bool // the bucket has or had versions
	csn         uint64
	row         versionRow
	s           *Store
}

func (v *version) null() bool { return v.ok && !v.row.Own }

// live tells whether it is an object: there is one, and it is no delete marker.
func (v *version) live() bool { return v.ok && !v.row.Marker }

func (v *version) rowKey() []byte { return index.ObjectKey(v.bucket, v.key, v.csn) }

func (v *version) id() string {
	if !v.row.Own {
		return nullVersion
	}
	return v.s.versions.id(v.csn)
}

func (v *version) info() ObjectInfo {
	r := &v.row
	return ObjectInfo{Attributes: r.Attributes.attributes(), Bucket: v.bucket, Key: v.key, VersionID: v.id(), Versioned: v.versioned,
		Size: r.Content.Size, Modified: unixNano(r.Modified), Parts: r.PartCount}
}

// check asks a condition about the version.
func (v *version) check(cond Condition) error {
	switch {
	case cond == nil:
		return nil
	case !v.live():
		return cond(nil)
	}
	i := v.info()
	return cond(&i)
}

// A DeleteMarkerError says that the version that was asked for is a delete marker. It matches ErrNoSuchKey when that is the newest
// of its key and no version was named, else ErrDeleteMarker.
type DeleteMarkerError struct {
	Bucket, Key, VersionID string
	Modified               time.Time
	Named                  bool // the request named the version
}

func (e *DeleteMarkerError) Error() string {
	return fmt.Sprintf("cas: %s/%s: version %s is a delete marker", e.Bucket, e.Key, e.VersionID)
}

func (e *DeleteMarkerError) Is(target error) bool {
	return target == ErrNoSuchKey && !e.Named || target == ErrDeleteMarker && e.Named
}

// newest finds the newest version of a key, delete markers included.
func (s *Store) newest(r index.Reader, b *bucketRow, bucket, key string) (version, error) {
	lo, hi := index.ObjectRange(bucket, key)
	return s.firstVersion(r, lo, hi, version{s: s, bucket: bucket, key: key, versioned: b.versioned()})
}

// below finds the next older version.
func (v *version) below(r index.Reader) (version, error) {
	_, hi := index.ObjectRange(v.bucket, v.key)
	return v.s.firstVersion(r, append(v.rowKey(), 0), hi, v.blank())
}

func (v *version) blank() version {
	return version{s: v.s, bucket: v.bucket, key: v.key, versioned: v.versioned}
}

func (s *Store) firstVersion(r index.Reader, lo, hi []byte, v version) (version, error) {
	e, ok, err := r.First(index.Objects, lo, hi)
	if err != nil || !ok {
		return v, err
	}
	return v, v.decode(e)
}

func (v *version) decode(e index.Entry) (err error) {
	if _, _, v.csn, err = index.ParseObjectKey(e.Key); err != nil {
		return err
	}
	v.ok = true
	return decodeRow(index.Objects, e.Key, e.Value, &v.row)
}

// at finds the version of the same key that the mutation csn wrote.
func (v *version) at(r index.Reader, csn uint64) (version, error) {
	other := v.blank()
	e, ok, err := r.Get(index.Objects, index.ObjectKey(v.bucket, v.key, csn))
	if err != nil || !ok {
		return other, err
	}
	return other, other.decode(e)
}

// nullBelow is what rows above v say of the null version: its CSN, 0 for none. It may be gone.
func (v *version) nullBelow() uint64 {
	if v.null() {
		return v.csn
	}
	return v.row.Null
}

// findNull finds the null version of the key whose newest version is v.
func (v *version) findNull(r index.Reader) (version, error) {
	switch {
	case !v.ok || v.null():
		return *v, nil
	case v.row.Null == 0:
		return v.blank(), nil
	}
	return v.at(r, v.row.Null)
}

// find finds the version with an ID of the key whose newest version is v.
func (v *version) find(r index.Reader, id string) (version, error) {
	if id == nullVersion {
		return v.findNull(r)
	}
	csn, err := v.s.versions.csn(id)
	if err != nil {
		return v.blank(), err
	}
	if v.ok && v.row.Own && v.csn == csn {
		return *v, nil
	}
	other, err := v.at(r, csn)
	if other.null() { // which has no such ID
		other = v.blank()
	}
	return other, err
}

// getVersion finds the object that a request names. Errors: ErrNoSuchBucket, ErrNoSuchKey, ErrNoSuchVersion, ErrInvalidVersion,
// *DeleteMarkerError.
func (s *Store) getVersion(r index.Reader, q GetRequest) (version, error) {
	b, err := getBucket(r, q.Bucket)
	if err != nil {
		return version{s: s}, err
	}
	v, err := s.newest(r, &b, q.Bucket, q.Key)
	if err == nil && q.VersionID != "" {
		v, err = v.find(r, q.VersionID)
	}
	switch {
	case err != nil:
		return v, err
	case v.live():
		return v, nil
	case v.ok:
		return v, &DeleteMarkerError{Bucket: q.Bucket, Key: q.Key, VersionID: v.id(), Modified: unixNano(v.row.Modified), Named: q.VersionID != ""}
	case q.VersionID != "":
		return v, fmt.Errorf("%w: %s/%s %q", ErrNoSuchVersion, q.Bucket, q.Key, q.VersionID)
	}
	return v, fmt.Errorf("%w: %s/%s", ErrNoSuchKey, q.Bucket, q.Key)
}
