import tseslint from "typescript-eslint";

/** Longer or more branching functions are split, or say beside an eslint-disable line why not. */
const size = {
  "max-lines-per-function": ["error", { max: 80, skipBlankLines: true, skipComments: true }],
  complexity: ["error", 25],
};

export default tseslint.config(
  { ignores: ["dist/", "node_modules/", "plugin/wire/control/pb/", "lab/out/", "**/*.js"] },
  {
    files: ["**/*.ts"],
    languageOptions: { parser: tseslint.parser, parserOptions: { projectService: true } },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    plugins: { "@typescript-eslint": tseslint.plugin },
    rules: {
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/no-misused-promises": "error",
      "@typescript-eslint/switch-exhaustiveness-check": [
        "error",
        { considerDefaultExhaustiveForUnions: true },
      ],
      ...size,
    },
  },
  { files: ["test/**/*.ts"], rules: { "max-lines-per-function": "off" } },
);
