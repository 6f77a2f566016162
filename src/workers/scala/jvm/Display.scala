package nb

/** What a cell shows beside its result, for pages that can show more than text: `nb.Display.html("<b>x</b>")`. */
object Display {
  def html(text: String): Unit = apply("text/html" -> text)
  def markdown(text: String): Unit = apply("text/markdown" -> text)
  def svg(text: String): Unit = apply("image/svg+xml" -> text)

  /** The same thing in several types. */
  def apply(data: (String, String)*): Unit = worker.Worker.display(data)
}
