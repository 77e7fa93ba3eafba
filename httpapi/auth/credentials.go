package auth

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// RootFile is the name of the file in each data directory that keeps generated root credentials: a JSON object with
// "access_key" and "secret_key", mode 0600.
const RootFile = "root-credentials.json"

// rootFileBytesMax bounds what is read of a RootFile.
const rootFileBytesMax = 4 << 10

// Credentials are an access key and its secret.
type Credentials struct {
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
}

// String hides the secret, so that a stray %v never puts it into a log.
func (c Credentials) String() string { return c.AccessKey + ":(secret)" }

// GoString hides the secret from %#v.
func (c Credentials) GoString() string { return c.String() }

// Validate tells whether the credentials can be used at all: an access key of 3 to 128 printable ASCII characters
// without "/", "," and "=", and a secret of at least 8 bytes.
func (c Credentials) Validate() error {
	if len(c.AccessKey) < 3 || len(c.AccessKey) > 128 {
		return errors.New("auth: access key must have 3 to 128 characters")
	}
	for i := range len(c.AccessKey) {
		if b := c.AccessKey[i]; b <= ' ' || b > '~' || b == '/' || b == ',' || b == '=' {
			return errors.New("auth: access key may hold printable ASCII only, without space, '/', ',' and '='")
		}
	}
	if len(c.SecretKey) < 8 {
		return errors.New("auth: secret key must have at least 8 characters")
	}
	return nil
}

// GenerateCredentials returns a new random pair: 20 characters of access key and 40 of secret (198 bits).
func GenerateCredentials() Credentials {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" // 32 characters: a byte modulo 32 is unbiased
	var b [60]byte
	_, _ = rand.Read(b[:]) // never fails (Go 1.24): the process ends instead
	for i, x := range b {
		b[i] = alphabet[x%32]
	}
	return Credentials{AccessKey: string(b[:20]), SecretKey: string(b[20:])}
}

// LoadOrCreateRoot returns the root credentials kept in dirs, and the path of the copy that was used. Any present copy
// wins, the first in the order of dirs; directories without one get it. When there is none at all, credentials are generated and
// written to every directory (created is then true). Directories that do not exist are passed over, as a store goes on
// without some of its directories. It fails when a copy is unreadable and no other is good, rather than let a damaged
// file change the password, and when not a single copy could be written.
//
// Call it once the store has accepted the directories: it puts a file into them.
func LoadOrCreateRoot(dirs []string) (c Credentials, path string, created bool, err error) {
	var damage error
	var empty []string // present directories without a good copy
	for _, dir := range dirs {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			continue
		}
		file := filepath.Join(dir, RootFile)
		got, err := readRoot(file)
		switch {
		case err == nil && path == "":
			c, path = got, file
		case err == nil: // a further copy; the first wins
		case errors.Is(err, fs.ErrNotExist):
			empty = append(empty, dir)
		default:
			damage = errors.Join(damage, err)
		}
	}
	if path == "" {
		if damage != nil {
			return Credentials{}, "", false, fmt.Errorf("auth: no readable copy of the root credentials (restore one, or remove it to have new ones generated): %w", damage)
		}
		c, created = GenerateCredentials(), true
	}
	var failed error
	for _, dir := range empty {
		file := filepath.Join(dir, RootFile)
		if err := writeRoot(file, c); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if path == "" {
			path = file
		}
	}
	if path == "" {
		if failed == nil {
			failed = errors.New("no data directory is present")
		}
		return Credentials{}, "", false, fmt.Errorf("auth: keep generated root credentials: %w", failed)
	}
	return c, path, created, nil
}

func readRoot(path string) (Credentials, error) {
	f, err := os.Open(path)
	if err != nil {
		return Credentials{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Credentials{}, err
	}
	if !st.Mode().IsRegular() || st.Size() > rootFileBytesMax {
		return Credentials{}, fmt.Errorf("%s is not a credentials file", path)
	}
	var c Credentials
	if err := json.NewDecoder(f).Decode(&c); err != nil {
		return Credentials{}, fmt.Errorf("%s: %w", path, err)
	}
	if err := c.Validate(); err != nil {
		return Credentials{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// writeRoot puts the file in place as a whole or not at all.
func writeRoot(path string, c Credentials) (err error) {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+RootFile+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
