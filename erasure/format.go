package erasure

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/zeebo/xxh3"
)

const (
	formatFile   = "format.json"
	formatMagic  = "casd"
	lockFile     = "lock"
	formatMax    = 1 << 20 // bytes of format.json
	tmpExtension = ".tmp"
)

// A format is what format.json of a data directory holds. Checksum is the XXH3-64, 16 hex digits, of the same document
// with an empty checksum and no white space, as encoding/json writes it.
type format struct {
	Magic    string          `json:"format"`
	Version  int             `json:"version"`
	Store    string          `json:"store"` // 32 hex digits
	Dir      string          `json:"dir"`   // 32 hex digits
	K        int             `json:"k"`     // of the code that the store was created with
	M        int             `json:"m"`
	Code     *Code           `json:"code,omitempty"`   // of new segments, when it is another one
	CSN      uint64          `json:"csn"`              // revision of what may change: code, parity, lost and members; 0 is creation
	Parity   *int            `json:"parity,omitempty"` // smallest of any live segment, when it is less than that of the code
	Lost     int             `json:"lost,omitempty"`   // members that were declared lost and whose shards were not all rebuilt
	Members  []Member        `json:"members"`
	Created  string          `json:"created"` // RFC 3339
	Params   json.RawMessage `json:"params,omitempty"`
	Checksum string          `json:"checksum"`
}

var errFormatDamaged = errors.New("erasure: format.json is damaged")

func (f format) sum() (string, error) {
	f.Checksum = ""
	b, err := json.Marshal(f)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%016x", xxh3.Hash(b)), nil
}

func (f format) encode() ([]byte, error) {
	sum, err := f.sum()
	if err != nil {
		return nil, err
	}
	f.Checksum = sum
	b, err := json.MarshalIndent(f, "", "  ")
	return append(b, '\n'), err
}

// decodeFormat returns errNewer for a newer version and errFormatDamaged for anything that encode did not write.
func decodeFormat(b []byte) (f format, err error) {
	var v struct {
		Magic   string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil || v.Magic != formatMagic || v.Version < 1 {
		return f, errFormatDamaged
	}
	if v.Version > formatVersion {
		return f, fmt.Errorf("%w: format %d, this one knows %d", errNewer, v.Version, formatVersion)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return f, errFormatDamaged
	}
	if f.Params != nil {
		var buf bytes.Buffer
		if json.Compact(&buf, f.Params) != nil {
			return f, errFormatDamaged
		}
		f.Params = buf.Bytes()
	}
	if sum, err := f.sum(); err != nil || sum != f.Checksum {
		return f, errFormatDamaged
	}
	return f, f.check()
}

func (f format) check() error {
	if !isHex(f.Store, 32) || !isHex(f.Dir, 32) || f.K < 1 || f.M < 0 || f.K+f.M > shardsMax || len(f.Members) == 0 {
		return errFormatDamaged
	}
	if f.Code != nil && !f.Code.valid() || f.Lost < 0 || f.Parity != nil && *f.Parity < 0 {
		return errFormatDamaged
	}
	seen := map[string]bool{}
	for _, m := range f.Members {
		if !isHex(m.ID, 32) || seen[m.ID] {
			return errFormatDamaged
		}
		seen[m.ID] = true
	}
	return nil
}

func (f format) has(id string) bool { return f.find(id) >= 0 }

// find returns the place of a member in the list, or -1.
func (f format) find(id string) int {
	return slices.IndexFunc(f.Members, func(m Member) bool { return m.ID == id })
}

// code is that of new segments.
func (f format) code() Code {
	if f.Code != nil {
		return *f.Code
	}
	return Code{f.K, f.M}
}

// leastParity is the smallest parity that a live segment may have, and that of new ones.
func (f format) leastParity() int {
	if m := f.code().M; f.Parity == nil || *f.Parity > m {
		return m
	}
	return *f.Parity
}

func (f *format) setLeastParity(m int) {
	if f.Parity = &m; m >= f.code().M {
		f.Parity = nil
	}
}

// serving counts the members that are not just joining.
func (f format) serving() (n int) {
	for _, m := range f.Members {
		if m.State != StateJoining {
			n++
		}
	}
	return n
}

func (f format) storeID() (id id16) {
	_, _ = hex.Decode(id[:], []byte(f.Store)) // checked by decodeFormat
	return id
}

func isHex(s string, n int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(s) == n && hex.EncodeToString(b) == s
}

// readFormat reads format.json of the directory at path. Its error matches fs.ErrNotExist when there is none.
func readFormat(fsys FS, path string) (format, error) {
	f, err := fsys.OpenFile(filepath.Join(path, formatFile), os.O_RDONLY)
	if err != nil {
		return format{}, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return format{}, err
	}
	if fi.Size > formatMax {
		return format{}, errFormatDamaged
	}
	b := make([]byte, fi.Size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return format{}, err
	}
	return decodeFormat(b)
}

// writeFormat replaces format.json of the directory at path, durably and at once.
func writeFormat(fsys FS, path string, f format) error {
	if err := prepareFormat(fsys, path, f); err != nil {
		return err
	}
	return commitFormat(fsys, path)
}

// prepareFormat writes the new format.json beside the old one, durably.
func prepareFormat(fsys FS, path string, f format) error {
	b, err := f.encode()
	if err != nil {
		return err
	}
	name := filepath.Join(path, formatFile)
	tmp, err := fsys.OpenFile(name+tmpExtension, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	defer tmp.Close()
	if _, err := tmp.WriteAt(b, 0); err != nil {
		return err
	}
	return tmp.Sync()
}

// commitFormat puts what prepareFormat wrote in the place of the old format.json, durably.
func commitFormat(fsys FS, path string) error {
	name := filepath.Join(path, formatFile)
	if err := fsys.Rename(name+tmpExtension, name); err != nil {
		return err
	}
	return fsys.SyncDir(path)
}

// shardName is the name of a shard file.
func shardName(id SegmentID, c Class, shard int) string {
	return fmt.Sprintf("%016x.%c.%02d", uint64(id), c.letter(), shard)
}

// parseShardName accepts exactly what shardName returns.
func parseShardName(name string) (id SegmentID, c Class, shard int, ok bool) {
	if len(name) != 21 || name[16] != '.' || name[18] != '.' {
		return 0, 0, 0, false
	}
	n, err := strconv.ParseUint(name[:16], 16, 64)
	if err != nil || n == 0 {
		return 0, 0, 0, false
	}
	for _, class := range []Class{Metadata, Data, Snapshot} {
		if class.letter() == name[17] {
			c = class
		}
	}
	i, err := strconv.Atoi(name[19:])
	if c == 0 || err != nil || i < 0 || i >= shardsMax || shardName(SegmentID(n), c, i) != name {
		return 0, 0, 0, false
	}
	return SegmentID(n), c, i, true
}

// letter stands for the class in file names.
func (c Class) letter() byte {
	switch c {
	case Metadata:
		return 'm'
	case Data:
		return 'd'
	default:
		return 's'
	}
}

// String returns the name of the class, as metrics and messages use it.
func (c Class) String() string {
	switch c {
	case Metadata:
		return "metadata"
	case Data:
		return "data"
	default:
		return "snapshot"
	}
}

// defaultCode is the code for a number of directories.
func defaultCode(dirs int) (k, m int) {
	switch {
	case dirs == 1:
		return 1, 0
	case dirs <= 3:
		m = 1
	case dirs <= 11:
		m = 2
	default:
		m = 4
	}
	return min(dirs, shardsMax) - m, m
}
