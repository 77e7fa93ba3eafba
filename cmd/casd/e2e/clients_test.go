package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/casd/casd/cmd/casd/casdtest"
)

// TestRestic makes three generations of backups, checks every byte, restores, and forgets.
func TestRestic(t *testing.T) {
	t.Parallel()
	s := serve(t)
	tree := filepath.Join(t.TempDir(), "tree")
	copyTree(t, realTree(t), tree)
	restic := client{t: t, path: tool(t, "restic"), args: []string{"--no-cache", "-q"},
		env: clientEnv(t, s, "RESTIC_PASSWORD=password", "RESTIC_REPOSITORY=s3:"+s.URL()+"/restic-repo")}
	restic.run("init")
	var generations []string
	for gen := range 3 {
		if gen > 0 {
			changeTree(t, tree, gen)
		}
		keep := filepath.Join(t.TempDir(), "keep")
		copyTree(t, tree, keep)
		generations = append(generations, keep)
		restic.run("backup", "--tag", fmt.Sprintf("g%d", gen), tree)
	}
	restic.run("check", "--read-data")
	for gen, want := range generations {
		if gen == 1 {
			continue // the oldest and the newest are enough
		}
		target := t.TempDir()
		restic.run("restore", "latest", "--tag", fmt.Sprintf("g%d", gen), "--target", target)
		sameTrees(t, want, filepath.Join(target, tree))
	}
	restic.run("forget", "--keep-last", "1", "--prune", "--max-unused", "0")
	restic.run("check", "--read-data")
	target := t.TempDir()
	restic.run("restore", "latest", "--target", target)
	sameTrees(t, generations[2], filepath.Join(target, tree))

	stop(t, s)
	start(t, s)
	restic.run("check", "--read-data")
}

func copyTree(t *testing.T, source, target string) {
	t.Helper()
	if out, err := exec.Command("cp", "-r", "--no-preserve=mode", source, target).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
}

// changeTree does what a day does to a tree: it appends to one file in twenty, removes one in fifty, and adds some.
func changeTree(t *testing.T, tree string, generation int) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(tree, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "big.bin" {
			return err
		}
		n++
		switch {
		case n%50 == generation:
			return os.Remove(path)
		case n%20 == generation:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, append(b, fmt.Sprintf("\nchanged in generation %d\n", generation)...), 0o644)
		case n%200 == generation:
			return os.WriteFile(path+".new", []byte(path), 0o644)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRclone syncs a tree up and down, checks it by download, and syncs a change.
func TestRclone(t *testing.T) {
	t.Parallel()
	s := serve(t)
	tree := filepath.Join(t.TempDir(), "tree")
	copyTree(t, realTree(t), tree)
	rclone := client{t: t, path: tool(t, "rclone"), env: clientEnv(t, s,
		"RCLONE_CONFIG=/dev/null", "RCLONE_CONFIG_CASD_TYPE=s3", "RCLONE_CONFIG_CASD_PROVIDER=Other", "RCLONE_CONFIG_CASD_ENV_AUTH=true",
		"RCLONE_CONFIG_CASD_ENDPOINT="+s.URL(), "RCLONE_CONFIG_CASD_REGION="+casdtest.Region, "RCLONE_TRANSFERS=8", "RCLONE_CHECKERS=8", "RCLONE_RETRIES=1", "RCLONE_LOW_LEVEL_RETRIES=2")}
	rclone.run("mkdir", "casd:rclone")
	rclone.run("sync", tree, "casd:rclone/tree")
	rclone.run("check", "--download", tree, "casd:rclone/tree")
	first := stats(t, s, "")

	back := filepath.Join(t.TempDir(), "back")
	rclone.run("sync", "casd:rclone/tree", back)
	rclone.run("check", "--download", tree, back)

	// The same tree under another name stores next to nothing.
	rclone.run("sync", tree, "casd:rclone/again")
	second := stats(t, s, "")
	t.Logf("first upload: %d logical bytes, %d payload; second: %d more payload", first.LogicalBytes, first.PayloadBytes, second.PayloadBytes-first.PayloadBytes)
	perObject := float64(second.PayloadBytes-first.PayloadBytes) / float64(second.Objects-first.Objects)
	if second.LogicalBytes < 2*first.LogicalBytes || second.UniqueBytes > first.UniqueBytes+first.UniqueBytes/50 {
		t.Errorf("after the second upload: %+v, after the first: %+v", second, first)
	}
	// What remains is metadata, and the bodies of objects so small that they live in it.
	if perObject > 1500 {
		t.Errorf("a duplicate object cost %.0f payload bytes, want at most 1500", perObject)
	}

	changeTree(t, tree, 1)
	rclone.run("sync", tree, "casd:rclone/tree")
	rclone.run("check", "--download", tree, "casd:rclone/tree")
	rclone.run("sync", "casd:rclone/tree", back)
	rclone.run("check", "--download", tree, back)

	big := filepath.Join(t.TempDir(), "big.bin")
	if err := randomFile(big, 5, 40<<20); err != nil {
		t.Fatal(err)
	}
	rclone.run("copyto", "--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M", big, "casd:rclone/big") // multipart
	rclone.run("copyto", "casd:rclone/big", big+".back")
	sameTrees(t, big, big+".back")
	rclone.run("purge", "casd:rclone/again")
	if out := rclone.run("lsf", "casd:rclone"); !strings.Contains(out, "tree/") || strings.Contains(out, "again") {
		t.Errorf("rclone lsf = %q", out)
	}
}

// awsClients are the AWS CLIs on the PATH: versions differ in the checksums and framing that they send.
func awsClients(t *testing.T) []string {
	t.Helper()
	found := []string{tool(t, "aws")}
	seen := map[string]bool{}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path := filepath.Join(dir, "aws")
		file, err := filepath.EvalSymlinks(path)
		if err != nil || seen[file] {
			continue
		}
		seen[file] = true
		if path != found[0] && exec.Command(path, "--version").Run() == nil { // a shim may lead nowhere
			found = append(found, path)
		}
	}
	return found
}

// bigBytes is the size of the AWS CLI's large file; CASD_BIG_BYTES overrides it.
func bigBytes(t *testing.T) int64 {
	t.Helper()
	if v := os.Getenv("CASD_BIG_BYTES"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 1<<30 + 12345
}

// TestAWSCLI copies a large file by multipart upload, reads ranges of it, and does the daily work of the CLI.
func TestAWSCLI(t *testing.T) {
	for i, path := range awsClients(t) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			s := serve(t)
			aws := client{t: t, path: path, args: []string{"--endpoint-url", s.URL()}, env: clientEnv(t, s), dir: t.TempDir()}
			out, err := client{t: t, path: path, env: aws.env}.try("--version")
			t.Logf("%s: %s %v", path, strings.TrimSpace(out), err)

			aws.run("s3", "mb", "s3://big")
			size := bigBytes(t)
			if i > 0 {
				size = 100<<20 + 7 // the large file once is enough
			}
			big := filepath.Join(aws.dir, "big.bin")
			if err := randomFile(big, 11, size); err != nil {
				t.Fatal(err)
			}
			aws.run("s3", "cp", "--only-show-errors", big, "s3://big/dir/big.bin")
			aws.run("s3", "cp", "--only-show-errors", "s3://big/dir/big.bin", "back.bin")
			sameTrees(t, big, filepath.Join(aws.dir, "back.bin"))
			for _, r := range [][2]int64{{0, 0}, {1, 8388608}, {8388607, 8388608}, {size / 2, size/2 + 1<<20}, {size - 1, size - 1}, {size - 100, size + 100}} {
				aws.run("s3api", "get-object", "--bucket", "big", "--key", "dir/big.bin", "--range", fmt.Sprintf("bytes=%d-%d", r[0], r[1]), "range.bin")
				sameRange(t, big, filepath.Join(aws.dir, "range.bin"), r[0], min(r[1], size-1))
			}
			aws.run("s3api", "get-object", "--bucket", "big", "--key", "dir/big.bin", "--range", "bytes=-5", "range.bin")
			sameRange(t, big, filepath.Join(aws.dir, "range.bin"), size-5, size-1)

			// The same file again, by a copy inside and by an upload, stores next to nothing.
			before := stats(t, s, "")
			aws.run("s3", "cp", "--only-show-errors", "s3://big/dir/big.bin", "s3://big/copy.bin")
			if i == 0 {
				aws.run("s3", "cp", "--only-show-errors", big, "s3://big/again.bin")
			}
			after := stats(t, s, "")
			grown := after.PayloadBytes - before.PayloadBytes
			t.Logf("a duplicate of %d bytes added %d payload bytes", size, grown)
			if grown > 1<<20+size/500 {
				t.Errorf("a duplicate of %d bytes added %d payload bytes", size, grown)
			}

			tree := filepath.Join(t.TempDir(), "tree")
			if err := generateTree(tree, 3, 300, 3<<20); err != nil {
				t.Fatal(err)
			}
			aws.run("s3", "sync", "--only-show-errors", tree, "s3://big/tree/")
			aws.run("s3", "sync", "--only-show-errors", "s3://big/tree/", "tree-back")
			sameTrees(t, tree, filepath.Join(aws.dir, "tree-back"))
			if out := aws.run("s3", "ls", "s3://big/"); !strings.Contains(out, "PRE dir/") || !strings.Contains(out, "PRE tree/") || !strings.Contains(out, "copy.bin") {
				t.Errorf("aws s3 ls:\n%s", out)
			}
			aws.run("s3", "mv", "--only-show-errors", "s3://big/copy.bin", "s3://big/moved.bin")
			aws.run("s3", "rm", "--only-show-errors", "--recursive", "s3://big/tree/")
			if out, err := aws.try("s3", "rb", "s3://big"); err == nil || !strings.Contains(out, "BucketNotEmpty") {
				t.Errorf("aws s3 rb of a full bucket: %v\n%s", err, out)
			}
			aws.run("s3", "rb", "--force", "s3://big")
			if out := aws.run("s3", "ls"); strings.TrimSpace(out) != "" {
				t.Errorf("aws s3 ls after rb: %q", out)
			}
		})
	}
}

// sameRange fails unless got holds bytes first to last of want.
func sameRange(t *testing.T, want, got string, first, last int64) {
	t.Helper()
	f, err := os.Open(want)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	expect := make([]byte, last-first+1)
	if _, err := f.ReadAt(expect, first); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(got)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != string(expect) {
		t.Fatalf("bytes %d to %d differ (%d bytes, want %d)", first, last, len(b), len(expect))
	}
}

// TestS3cmd syncs a tree up and down.
func TestS3cmd(t *testing.T) {
	t.Parallel()
	s := serve(t)
	tree := filepath.Join(t.TempDir(), "tree")
	if err := generateTree(tree, 4, 400, 8<<20); err != nil {
		t.Fatal(err)
	}
	big := filepath.Join(tree, "big.bin")
	if err := randomFile(big, 6, 33<<20); err != nil { // past the 15 MiB at which s3cmd uploads in parts
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "s3cfg")
	content := fmt.Sprintf("[default]\naccess_key = %s\nsecret_key = %s\nhost_base = %s\nhost_bucket = %s/%%(bucket)\nuse_https = False\nbucket_location = %s\n",
		casdtest.User, casdtest.Password, s.Addr, s.Addr, casdtest.Region)
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	s3cmd := client{t: t, path: tool(t, "s3cmd"), args: []string{"-c", config, "--no-progress"}, env: clientEnv(t, s), dir: t.TempDir()}
	s3cmd.run("mb", "s3://s3cmd")
	s3cmd.run("sync", tree+"/", "s3://s3cmd/tree/")
	s3cmd.run("sync", "s3://s3cmd/tree/", "back/")
	sameTrees(t, tree, filepath.Join(s3cmd.dir, "back"))
	changeTree(t, tree, 1)
	s3cmd.run("sync", "--delete-removed", tree+"/", "s3://s3cmd/tree/")
	s3cmd.run("sync", "--delete-removed", "s3://s3cmd/tree/", "back/")
	sameTrees(t, tree, filepath.Join(s3cmd.dir, "back"))
	if out := s3cmd.run("ls", "s3://s3cmd/tree/"); !strings.Contains(out, "big.bin") {
		t.Errorf("s3cmd ls:\n%s", out)
	}
	s3cmd.run("info", "s3://s3cmd/tree/big.bin")
	s3cmd.run("cp", "s3://s3cmd/tree/big.bin", "s3://s3cmd/copy.bin")
	s3cmd.run("get", "--force", "s3://s3cmd/copy.bin", "copy.bin")
	sameTrees(t, big, filepath.Join(s3cmd.dir, "copy.bin"))
	s3cmd.run("del", "--recursive", "--force", "s3://s3cmd/")
	s3cmd.run("rb", "s3://s3cmd")
}

// TestSourceTars puts successive releases of one program and watches the sizes: what is shared is stored once.
func TestSourceTars(t *testing.T) {
	t.Parallel()
	s := serve(t)
	aws := client{t: t, path: tool(t, "aws"), args: []string{"--endpoint-url", s.URL()}, env: clientEnv(t, s), dir: t.TempDir()}
	aws.run("s3", "mb", "s3://source")
	tars := sourceTars(t)
	tars = tars[:min(len(tars), 3)]
	var last casdtest.Stats
	for i, path := range tars {
		aws.run("s3", "cp", "--only-show-errors", path, "s3://source/"+filepath.Base(path))
		st := stats(t, s, "")
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes in, %d unique bytes and %d payload bytes more, ratio %.1f", filepath.Base(path), info.Size(), st.UniqueBytes-last.UniqueBytes, st.PayloadBytes-last.PayloadBytes, st.DedupRatio)
		if i > 0 && st.UniqueBytes-last.UniqueBytes > info.Size()/4 {
			t.Errorf("%s differs little from its predecessor but added %d of its %d bytes", path, st.UniqueBytes-last.UniqueBytes, info.Size())
		}
		last = st
	}
	stop(t, s)
	start(t, s)
	if st := stats(t, s, ""); st.Objects != last.Objects || st.LogicalBytes != last.LogicalBytes || st.UniqueBytes != last.UniqueBytes || st.Chunks != last.Chunks {
		t.Errorf("stats after a restart %+v, before %+v", st, last)
	}
	for _, path := range tars {
		aws.run("s3", "cp", "--only-show-errors", "s3://source/"+filepath.Base(path), "back.tar")
		sameTrees(t, path, filepath.Join(aws.dir, "back.tar"))
	}
}
