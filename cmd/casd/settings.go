package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	envPrefix   = "CASD_"
	envUser     = "CASD_ROOT_USER"     // with envPassword: the root credentials; environment only, so that they
	envPassword = "CASD_ROOT_PASSWORD" // stand neither in a process list nor in a settings file
	dirsKey     = "dirs"               // the DIR arguments, as CASD_DIRS or in the YAML file
)

// notSettings are flags of a single call. They have no variable and no key.
var notSettings = []string{"help", "config", "json", "bucket", "level", "no-repair", "rate", "list", "max", "dry-run", "threshold", "recode"}

// loadSettings completes the flags of cmd that the command line did not set: from CASD_* variables, then from the YAML file of
// --config (or CASD_CONFIG). It returns the data directories: the arguments, else CASD_DIRS (separated by spaces), else the
// list under "dirs", with ranges expanded. A YAML key that no command knows is an error; variables that no command knows
// are returned as strays, since a container platform may set such (CASD_PORT), and yet one may be a typing error.
func loadSettings(cmd *cobra.Command, args []string) (dirs, strays []string, err error) {
	known := knownSettings(cmd.Root())
	k := koanf.New(".")

	path := cmd.Flags().Lookup("config").Value.String()
	if path == "" {
		path = os.Getenv(envPrefix + "CONFIG")
	}
	if path != "" {
		if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
			return nil, nil, fmt.Errorf("settings file %s: %w", path, err)
		}
		for _, key := range k.Keys() {
			if !known[key] {
				return nil, nil, fmt.Errorf("settings file %s: unknown key %q", path, key)
			}
		}
	}

	vars := env.Provider(".", env.Opt{Prefix: envPrefix, TransformFunc: func(name, value string) (string, any) {
		key := settingOf(name)
		switch {
		case name == envUser || name == envPassword || name == envPrefix+"CONFIG":
			return "", nil
		case !known[key]:
			strays = append(strays, name)
			return "", nil
		case key == dirsKey:
			return key, strings.Fields(value)
		}
		return key, value
	}})
	if err := k.Load(vars, nil); err != nil {
		return nil, nil, fmt.Errorf("environment: %w", err)
	}

	flags := posflag.ProviderWithFlag(cmd.Flags(), ".", k, func(f *pflag.Flag) (string, any) {
		if !known[f.Name] {
			return "", nil
		}
		return f.Name, f.Value.String()
	})
	if err := k.Load(flags, nil); err != nil {
		return nil, nil, fmt.Errorf("flags: %w", err)
	}

	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || !known[f.Name] || err != nil {
			return
		}
		value, serr := scalar(k.Get(f.Name))
		if serr == nil && value != f.Value.String() {
			serr = f.Value.Set(value)
		}
		if serr != nil {
			source := "settings file " + path + ": " + f.Name
			if _, ok := os.LookupEnv(variableOf(f.Name)); ok {
				source = "environment: " + variableOf(f.Name)
			}
			err = fmt.Errorf("%s: %w", source, serr)
		}
	})
	if err != nil {
		return nil, nil, err
	}

	if len(args) == 0 {
		args = k.Strings(dirsKey)
		if one := k.String(dirsKey); len(args) == 0 && one != "" {
			args = strings.Fields(one)
		}
	}
	dirs, err = expandDirs(args)
	slices.Sort(strays)
	return dirs, strays, err
}

// scalar writes a value of the YAML file or of the environment as a flag's argument.
func scalar(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool, int, int64, uint64, float64:
		return fmt.Sprint(v), nil
	}
	return "", fmt.Errorf("want one value, have %v", v)
}

// knownSettings are the names of all flags of all commands that may stand in a settings file.
func knownSettings(root *cobra.Command) map[string]bool {
	known := map[string]bool{dirsKey: true}
	for _, cmd := range root.Commands() {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !slices.Contains(notSettings, f.Name) {
				known[f.Name] = true
			}
		})
	}
	return known
}

func settingOf(variable string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(variable, envPrefix)), "_", "-")
}

func variableOf(setting string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(setting, "-", "_"))
}
