"""Write the values of a recipe into params.yaml: the defaults, with the changes of the recipe.

    python src/recipe.py NAME         apply recipes/NAME.yaml; `defaults` restores the defaults
    python src/recipe.py --generate   after an edit of a recipe or a default: update
                                      recipes/effective.json and the table in recipes/README.md

Prints your own values before they are replaced, and each value that changes.

Reads   recipes/defaults.yaml and recipes/NAME.yaml, params.yaml
Writes  params.yaml
Costs   half a second; no stage runs
"""

from imgpipe.console.command_line import make_parser
from imgpipe.console.messages import report
from imgpipe.core.errors import run_script
from imgpipe.experiments.recipes import apply_change, describe_change, plan_change, write_generated


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help="name of a recipe")
    parser.add_argument("--generate", action="store_true", help="update the generated files")
    options = parser.parse_args()
    if options.generate:
        write_generated()
        return
    change = plan_change(options.name)
    report(*describe_change(change))
    apply_change(change)


if __name__ == "__main__":
    run_script(main)
