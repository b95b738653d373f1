// Package expr compiles and evaluates CEL: the expressions by which users say when an object is healthy and when a dependency is ready enough.
package expr

import (
	"fmt"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/ext"
	"github.com/google/cel-go/interpreter"
	"k8s.io/apiserver/pkg/cel/library"
)

// environment is what all expressions share: the language as Kubernetes and Flux have it. It and what is built on it take half a MiB of heap and 3 ms, so it is built when the
// first expression is compiled; an agent without expressions never pays.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	texts, err := boundedStrings()
	if err != nil {
		return nil, fmt.Errorf("build the CEL environment: %w", err)
	}
	env, err := cel.NewEnv(
		cel.EagerlyValidateDeclarations(true),
		cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true),
		cel.OptionalTypes(),
		texts,
		ext.Sets(),
		ext.Encoders(),
		library.URLs(),
		library.Regex(),
		library.Lists(),
		library.Quantity(),
		library.IP(),
		library.CIDR(),
		library.Format(),
		library.SemverLib(library.SemverVersion(1)),
		// What is wrong in a literal is said when the config is read, not when the first object comes.
		cel.ASTValidators(cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals()),
		cel.CostEstimatorOptions(checker.PresenceTestHasCost(false)),
	)
	if err != nil {
		return nil, fmt.Errorf("build the CEL environment: %w", err)
	}
	return env, nil
})

// objectFields are the fields at the top of objects that need no further environment: those of nearly all expressions. Others are declared where an expression names them.
var objectFields = []string{"apiVersion", "kind", "metadata", "spec", "status", "data"}

// healthEnvironment has the fields of an object as variables. They are dynamic: the schema of the kind is not known.
var healthEnvironment = sync.OnceValues(func() (*cel.Env, error) { return declare(environment, cel.DynType, objectFields) })

// readyEnvironment has the two targets as variables.
var readyEnvironment = sync.OnceValues(func() (*cel.Env, error) {
	return declare(environment, cel.MapType(cel.StringType, cel.DynType), []string{"dep", "self"})
})

// declare adds variables to an environment.
func declare(base func() (*cel.Env, error), t *cel.Type, names []string) (*cel.Env, error) {
	env, err := base()
	if err != nil {
		return nil, err
	}
	opts := make([]cel.EnvOption, len(names))
	for i, n := range names {
		opts[i] = cel.Variable(n, t)
	}
	if env, err = env.Extend(opts...); err != nil {
		return nil, fmt.Errorf("declare the variables of an expression: %w", err)
	}
	return env, nil
}

const (
	// costLimit bounds one evaluation in CEL's units, about one per value touched and per ten bytes read: enough for a status with thousands of entries, and some 20 ms of work. The API
	// server allows five times as much, but has more memory.
	costLimit = 200_000
	// checkEvery is how many rounds of a loop pass between looks at the clock.
	checkEvery = 100
)

// limits keep an evaluation from taking the agent's time or memory.
func limits() []cel.ProgramOption {
	return []cel.ProgramOption{
		cel.EvalOptions(cel.OptOptimize, cel.OptTrackCost),
		cel.CostLimit(costLimit),
		cel.CostTracking(&library.CostEstimator{}),
		cel.CostTrackerOptions(interpreter.PresenceTestHasCost(false)),
		cel.InterruptCheckFrequency(checkEvery),
	}
}
