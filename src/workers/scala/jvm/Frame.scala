package nb

import java.io.RandomAccessFile

/** A table that Python or a database has handed over: `df("name")` is a column, `df.rows` are its rows. What is missing is null.
  *
  * Nothing is copied: values are read where the table lies in memory, which stays as long as the frame does.
  */
final class Frame private (val names: IndexedSeq[String], val kinds: IndexedSeq[String], columns: IndexedSeq[IndexedSeq[Any]], val size: Int) {
  private lazy val places = names.zipWithIndex.toMap

  /** The column of this name. */
  def apply(name: String): IndexedSeq[Any] = columns(place(name))

  /** The column of this name, whose values are of this type: `df.as[Long]("id").sum`. */
  def as[T](name: String): IndexedSeq[T] = apply(name).asInstanceOf[IndexedSeq[T]]

  /** Its rows. */
  def rows: IndexedSeq[Frame.Row] = new arrow.Seen(size, new Frame.Row(this, _))

  private[nb] def value(name: String, row: Int): Any = columns(place(name))(row)

  private def place(name: String): Int =
    places.getOrElse(name, throw new NoSuchElementException(s"there is no column $name; there is ${names.mkString(", ")}"))

  override def toString: String = {
    val shown = names.zip(kinds).map { case (name, kind) => s"$name: $kind" }
    s"$size rows of ${shown.mkString(", ")}"
  }
}

object Frame {

  /** One row of a frame. */
  final class Row private[Frame] (frame: Frame, at: Int) {
    def apply(name: String): Any = frame.value(name, at)
    def as[T](name: String): T = apply(name).asInstanceOf[T]
    override def toString: String = frame.names.map(name => s"$name = ${apply(name)}").mkString("Row(", ", ", ")")
  }

  /** The table in this file of Arrow's IPC format. What is mapped of it stays when the file goes. */
  def read(path: String): Frame = {
    val file = new RandomAccessFile(path, "r")
    try {
      val (columns, size) = new arrow.Reader(file.getChannel).table()
      // An index of pandas that has no name.
      val shown = columns.filterNot(_.name.startsWith("__index_level_"))
      new Frame(shown.map(_.name), shown.map(_.kind), shown.map(_.values), size)
    } finally file.close()
  }
}
